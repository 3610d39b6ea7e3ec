/** The configuration of a rank comparison: completed and checked. */

import path from "node:path";
import { DyloraError } from "../errors.js";
import type { ConfigOf } from "../options/option-spec.js";
import { completeOptions, readConfigObject } from "../options/read-options.js";
import { BENCH_OPTIONS } from "./bench-options.js";
import { BAND_COUNT } from "./timestep-bands.js";

/** Draws per image where neither `samples` nor `until` is given: one in each band. */
const DEFAULT_SAMPLES = BAND_COUNT;
/** With `until`: 16 rounds, whose intervals are as wide as those of one round divided by 4, where noise is all there is. */
const DEFAULT_MOST_SAMPLES = 16 * BAND_COUNT;

/**
 * Everything that decides a rank comparison.
 *
 * Field names are the option names of {@link BENCH_OPTIONS} in camelCase, where units and defaults are described. Paths are
 * absolute.
 */
export interface BenchConfig extends Omit<ConfigOf<typeof BENCH_OPTIONS>, "samples"> {
  /** LoRA and DyLoRA files, or folders as PEFT and diffusers save them. */
  readonly files: readonly string[];
  /** Draws per image, at most where `until` is given: a multiple of the number of bands. */
  readonly samples: number;
}

/** The options that have no default, and any of the others. */
export type BenchConfigInput = Pick<BenchConfig, "files" | "pretrainedModelNameOrPath" | "data"> &
  Partial<Omit<BenchConfig, "samples">> & { readonly samples?: number | null };

/**
 * Completes a configuration with the defaults and checks it.
 *
 * @throws {DyloraError} `E_CONFIG` for an unknown option, a value that does not fit, or no files
 */
export function createBenchConfig(input: BenchConfigInput): BenchConfig {
  const { files, ...given } = input;
  if (!Array.isArray(files) || files.length === 0 || !files.every((file) => typeof file === "string" && file))
    throw new DyloraError("E_CONFIG", "bench: files expects the paths of one or more LoRA files", {
      note: "Nothing was started.",
    });
  const set = { command: "bench", table: BENCH_OPTIONS };
  const config = completeOptions(set, readConfigObject(set, given), "E_CONFIG");
  const samples = config.samples ?? (config.until === null ? DEFAULT_SAMPLES : DEFAULT_MOST_SAMPLES);
  return {
    ...config,
    files: files.map((file) => path.resolve(file)),
    multiplier: [...new Set(config.multiplier)].sort((a, b) => a - b),
    samples: Math.ceil(samples / BAND_COUNT) * BAND_COUNT,
  };
}
