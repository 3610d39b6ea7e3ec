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
  bench: {
    summary: "Measure every rank on held-out images and say which one is good enough.",
    load: async () => erase((await import("./commands/bench.js")).benchCommand),
  },
  doctor: {
    summary: "Show what this machine can run on, what is missing and how to get it.",
    load: async () => erase((await import("./commands/doctor.js")).doctorCommand),
  },
};
