/** Which pictures `dylora generate` draws, and what their files are called. */

import { randomInt } from "node:crypto";
import { join } from "node:path";
import { DyloraError } from "../errors.js";
import type { GenerateOptions } from "./generate-options.js";
import type { LoadedAdapter } from "./loaded-adapter.js";
import { type PromptEntry, readPromptFile } from "./prompt-file.js";
import type { AppliedAdapter, ImageRequest } from "./types.js";

export interface PlannedPicture {
  readonly path: string;
  readonly image: ImageRequest;
}

/** Seeds are drawn below this: they survive every reader's idea of an integer. */
const RANDOM_LIMIT = 2 ** 31;

/** @throws {DyloraError} `E_USAGE` where there is not exactly one source of prompts; as {@link readPromptFile} */
export async function readPrompts({
  prompt,
  fromFile,
}: Pick<GenerateOptions, "prompt" | "fromFile">): Promise<PromptEntry[]> {
  if (prompt !== null && fromFile === null) return [{ prompt }];
  if (prompt === null && fromFile !== null) return readPromptFile(fromFile);
  throw new DyloraError(
    "E_USAGE",
    prompt === null
      ? "generate: there is no prompt"
      : "generate: --prompt and --from_file exclude each other",
    { note: 'Give --prompt "a photo of a cat", or --from_file with one prompt a line. Nothing was drawn.' },
  );
}

/**
 * Every prompt, with every seed, at every rank, in this order. What a prompt says itself wins over the options.
 *
 * @param adapters - loaded, in the order of `options.adapters`
 * @param size - where neither prompt nor options say
 */
export function planPictures(
  options: GenerateOptions,
  prompts: readonly PromptEntry[],
  adapters: readonly LoadedAdapter[],
  size: { readonly width: number; readonly height: number },
): PlannedPicture[] {
  const variants = rankVariants(options, adapters);
  const firstSeed = options.seed ?? randomInt(RANDOM_LIMIT);
  const { width, height } = options.resolution ?? size;
  return prompts.flatMap((entry, promptIndex) =>
    Array.from({ length: options.imagesPerPrompt }, (_, repeat) => {
      const seed = (entry.seed ?? firstSeed) + repeat;
      return variants.map(({ rank, applied }): PlannedPicture => {
        const suffix = rank === null ? "" : `-rank${rank}`;
        const name = `${String(promptIndex).padStart(2, "0")}-seed${seed}${suffix}.png`;
        const image: ImageRequest = {
          negativePrompt: options.negativePrompt,
          width,
          height,
          steps: options.steps,
          scale: options.scale,
          sampler: options.sampler,
          spacing: options.scheduleType,
          ...entry,
          seed,
          adapters: applied,
        };
        return { path: join(options.outputDir, name), image };
      });
    }).flat(),
  );
}

/** The adapters once, or once at each of the ranks that were asked for. */
function rankVariants(
  { ranks, adapters: choices }: Pick<GenerateOptions, "ranks" | "adapters">,
  adapters: readonly LoadedAdapter[],
): { rank: number | null; applied: AppliedAdapter[] }[] {
  const at = (rank: number | null): AppliedAdapter[] =>
    adapters.map((adapter, index) => {
      const { rank: own, multiplier } = choices[index]!;
      return { adapter, rank: own ?? rank ?? adapter.maxRank, multiplier };
    });
  if (ranks === null) return [{ rank: null, applied: at(null) }];
  if (choices.every(({ rank }) => rank !== null)) {
    throw new DyloraError(
      "E_USAGE",
      choices.length === 0
        ? "generate: --ranks needs a LoRA file"
        : "generate: --ranks has no effect: every file has a rank of its own",
      {
        note: "Nothing was drawn. `dylora generate cat.safetensors --ranks 4,8` draws the file at both ranks.",
      },
    );
  }
  return [...new Set(ranks)].map((rank) => ({ rank, applied: at(rank) }));
}
