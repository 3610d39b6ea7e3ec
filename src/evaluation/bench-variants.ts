/** What is measured: the base model, and every file at every rank with every multiplier. */

import { combineAdapters } from "../sampling/loaded-adapter.js";
import type { BenchSetup } from "./bench-setup.js";
import { NO_ADAPTER } from "./content-keys.js";
import type { Variant } from "./measurement.js";

/** One file at one rank with one multiplier. */
export interface Place {
  /** Index of the file. */
  readonly file: number;
  readonly rank: number;
  readonly multiplier: number;
  readonly variant: Variant;
}

export function baseVariant({ targets }: BenchSetup): Variant {
  return { key: NO_ADAPTER, name: "base model", modules: () => combineAdapters(targets, []) };
}

export function placesOf({ adapters, names, targets, config }: BenchSetup): Place[] {
  const isPlain = config.multiplier.every((multiplier) => multiplier === 1);
  return adapters.flatMap(({ loaded, ranks, key }, file) =>
    ranks.flatMap((rank) =>
      config.multiplier.map((multiplier) => ({
        file,
        rank,
        multiplier,
        variant: {
          key: key(rank, multiplier),
          name: `rank ${rank}${isPlain ? "" : ` at ${multiplier}`} of ${names[file]}`,
          modules: () => combineAdapters(targets, [{ adapter: loaded, rank, multiplier }]),
        },
      })),
    ),
  );
}

/** The first of each key: variants of the same content are one function. */
export function distinctVariants(variants: readonly Variant[]): Variant[] {
  const first = new Map<string, Variant>();
  for (const variant of variants) if (!first.has(variant.key)) first.set(variant.key, variant);
  return [...first.values()];
}
