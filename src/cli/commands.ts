import type { CommandDefinition } from "./command.js";

interface CommandEntry {
  /** One sentence, for `dylora --help` and the head of the command's own help. */
  readonly summary: string;
  /** Commands are loaded when they run, so that `inspect` does not wait for what only `train` needs. */
  readonly load: () => Promise<CommandDefinition>;
}

// The table's own type does not matter once a command is chosen: it checks its options itself.
const erase = (definition: unknown) => definition as CommandDefinition;

export const COMMANDS: Readonly<Record<string, CommandEntry>> = {
  train: {
    summary: "Train a DyLoRA (or LoRA) adapter on a folder of captioned images.",
    load: async () => erase((await import("./commands/train.js")).trainCommand),
  },
  resume: {
    summary: "Go on with a training run from its saved state.",
    load: async () => erase((await import("./commands/resume.js")).resumeCommand),
  },
  extract: {
    summary: "Write LoRA files of lower ranks out of one DyLoRA file.",
    load: async () => erase((await import("./commands/extract.js")).extractCommand),
  },
  inspect: {
    summary: "Show what a LoRA file holds: modules, ranks, alphas, metadata.",
    load: async () => erase((await import("./commands/inspect.js")).inspectCommand),
  },
  resize: {
    summary: "Cut a LoRA down to lower ranks, or to a file size.",
    load: async () => erase((await import("./commands/resize.js")).resizeCommand),
  },
  nest: {
    summary: "Order a LoRA's components so that any lower rank can be extracted.",
    load: async () => erase((await import("./commands/nest.js")).nestCommand),
  },
  compare: {
    summary: "Compare two LoRA files module by module: norms, cosines, subspaces.",
    load: async () => erase((await import("./commands/compare.js")).compareCommand),
  },
  convert: {
    summary: "Rename a LoRA file's tensors for kohya's tools, diffusers or PEFT.",
    load: async () => erase((await import("./commands/convert.js")).convertCommand),
  },
  merge: {
    summary: "Add LoRA files up, into one LoRA or into a base model.",
    load: async () => erase((await import("./commands/merge.js")).mergeCommand),
  },
  diff: {
    summary: "Make a LoRA file out of two checkpoints: what fine-tuning changed.",
    load: async () => erase((await import("./commands/diff.js")).diffCommand),
  },
  edit: {
    summary: "Show, set and remove metadata; the tensors stay as they are.",
    load: async () => erase((await import("./commands/edit.js")).editCommand),
  },
  verify: {
    summary: "Check LoRA files and base models: format, hashes, numbers, fit.",
    load: async () => erase((await import("./commands/verify.js")).verifyCommand),
  },
  bench: {
    summary: "Measure every rank on held-out images and say which one is good enough.",
    load: async () => erase((await import("./commands/bench.js")).benchCommand),
  },
  report: {
    summary: "Write the page of a run or a comparison: charts, tables, pictures.",
    load: async () => erase((await import("./commands/report.js")).reportCommand),
  },
  generate: {
    summary: "Draw pictures with adapters at any rank and strength.",
    load: async () => erase((await import("./commands/generate.js")).generateCommand),
  },
  doctor: {
    summary: "Show what this machine can run on, what is missing and how to get it.",
    load: async () => erase((await import("./commands/doctor.js")).doctorCommand),
  },
};
