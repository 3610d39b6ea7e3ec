import path from "node:path";
import { BENCH_OPTIONS, type BenchReport } from "../../evaluation/bench-types.js";
import { completeOptions } from "../../options/read-options.js";
import { benchText } from "../bench-output.js";
import { defineCommand } from "../command.js";
import { writeDocument } from "../json.js";
import { ProgressLine } from "../progress-line.js";

export const benchCommand = defineCommand({
  command: "bench",
  flagStyle: "sd-scripts",
  positional: "<file...>",
  positionalDescription: "LoRA or DyLoRA files to compare on the same samples",
  table: BENCH_OPTIONS,
  details:
    "Every rank of every file, and the base model without adapter (rank 0), gets the same images, noises and timesteps, so small differences become visible.",
  examples: [
    {
      comment: "which rank of this DyLoRA is good enough?",
      command:
        "dylora bench output/last.safetensors --pretrained_model_name_or_path sd15.safetensors --data held-out",
    },
    {
      comment: "three ranks, more draws per image for narrower intervals",
      command:
        "dylora bench output/last.safetensors --pretrained_model_name_or_path sd15.safetensors --data held-out --ranks 4,8,16 --samples 16",
    },
    {
      comment: "two files side by side, for a script",
      command:
        "dylora bench a.safetensors b.safetensors --pretrained_model_name_or_path sd15.safetensors --data held-out --json",
    },
  ],
  onInterrupt: "stopping",

  async run({ positional, given }, context) {
    const options = completeOptions({ command: "bench", table: BENCH_OPTIONS }, given, "E_USAGE");
    const line = new ProgressLine(context.stderr);
    const { bench } = await import("../../evaluation/bench.js");
    let report: BenchReport;
    try {
      report = await bench(
        { ...options, files: positional.map((file) => path.resolve(file)) },
        {
          onProgress: ({ task, done, total }) => line.update(`${task}  ${done}/${total}`),
          signal: context.signal,
        },
      );
    } finally {
      line.clear();
    }
    if (context.json) writeDocument(context.stdout, report);
    else context.stdout.write(benchText(report, context.stdout));
    return undefined;
  },
});
