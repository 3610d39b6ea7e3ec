import path from "node:path";
import { DyloraError } from "../../errors.js";
import { completeOptions } from "../../options/read-options.js";
import { type AdapterChoice, GENERATE_OPTIONS } from "../../sampling/generate-options.js";
import { defineCommand } from "../command.js";
import { generateProgressLine, generateSummary, pictureLine } from "../generate-output.js";
import { writeDocument } from "../json.js";
import { ProgressLine } from "../progress-line.js";

export const generateCommand = defineCommand({
  command: "generate",
  flagStyle: "sd-scripts",
  positional: "[file...]",
  positionalDescription: "LoRA or DyLoRA files, each with :rank=8 and :multiplier=0.7 behind it where wanted",
  table: GENERATE_OPTIONS,
  details:
    "Without a file the base model draws. Several files are added up. Every picture is a PNG with its parameters inside, as stable-diffusion-webui writes them; its noise depends on its seed alone.",
  examples: [
    {
      comment: "the same picture at four ranks, and without the adapter",
      command:
        'dylora generate output/last.safetensors --pretrained_model_name_or_path sd15.safetensors --prompt "a cat" --ranks 0,2,4,8,16 --seed 1',
    },
    {
      comment: "two adapters, one at a lower rank and one weaker",
      command:
        'dylora generate cat.safetensors:rank=8 style.safetensors:multiplier=0.7 --pretrained_model_name_or_path sd15.safetensors --prompt "a cat" --sampler dpmsolver++ --steps 20',
    },
    {
      comment: "prompts from a file, as `train --sample_prompts` reads it",
      command:
        "dylora generate cat.safetensors --pretrained_model_name_or_path sd15.safetensors --from_file prompts.txt",
    },
  ],
  onInterrupt: "stopping after this step",

  async run({ positional, given }, context) {
    const options = completeOptions({ command: "generate", table: GENERATE_OPTIONS }, given, "E_USAGE");
    const adapters = positional.map(parseAdapterChoice);
    const line = new ProgressLine(context.stderr);
    const { generateFiles } = await import("../../sampling/generate-files.js");
    try {
      const report = await generateFiles(
        { ...options, outputDir: path.resolve(options.outputDir), adapters },
        {
          signal: context.signal,
          onProgress: (progress) => line.update(generateProgressLine(progress)),
          onPicture(picture) {
            line.clear();
            if (!context.json) context.stdout.write(pictureLine(picture));
          },
          onWarning(message) {
            if (!context.json) line.print(`${context.stderr.style.yellow("warning")}: ${message}`);
          },
        },
      );
      line.clear();
      if (context.json) writeDocument(context.stdout, report);
      else context.stdout.write(generateSummary(report));
    } finally {
      line.clear();
    }
    return undefined;
  },
});

/**
 * `cat.safetensors:rank=8:multiplier=0.7`; rank 0 leaves the adapter out.
 *
 * @throws {DyloraError} `E_USAGE`
 */
export function parseAdapterChoice(word: string): AdapterChoice {
  let file = word;
  const found = new Map<string, number>();
  for (;;) {
    const [, rest, name = "", text = ""] = /^(.+):([a-z_]+)=([^:=/\\]*)$/i.exec(file) ?? [];
    if (rest === undefined) break;
    const value = /^-?(\d+\.?\d*|\.\d+)$/.test(text) ? Number(text) : Number.NaN;
    const fits = name === "rank" ? Number.isSafeInteger(value) && value >= 0 : Number.isFinite(value);
    if ((name !== "rank" && name !== "multiplier") || found.has(name) || !fits) {
      throw new DyloraError("E_USAGE", `generate: ${word}: cannot read :${name}=${text}`, {
        note: "Behind a file may stand :rank= with a whole number, and :multiplier= with a number, each once. Nothing was drawn.",
      });
    }
    found.set(name, value);
    file = rest;
  }
  return {
    path: path.resolve(file),
    rank: found.get("rank") ?? null,
    multiplier: found.get("multiplier") ?? 1,
  };
}
