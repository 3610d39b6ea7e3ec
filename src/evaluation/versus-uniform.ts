/** Mixed ranks beside one rank for all modules, in the same size. */

import type { MeasuredBench } from "./bench-report.js";
import type { VersusUniform } from "./bench-types.js";
import { describeDifference } from "./recommend.js";
import type { PairedComparison } from "./statistics.js";

/** The size of a file of mixed ranks is met to this share; so much larger the other may be. */
const SIZE_TOLERANCE = 0.02;

/** Null where the file has one rank, or no DyLoRA was measured at a rank that is as small. */
export function versusUniform(
  file: number,
  { adapters, variants, names, multipliers }: MeasuredBench,
  comparison: PairedComparison,
): VersusUniform | null {
  const own = adapters[file]!;
  if (!own.isMixed) return null;
  const room = own.fileSizeBytes(own.maxRank) * (1 + SIZE_TOLERANCE);
  const strength = multipliers.includes(1) ? 1 : multipliers[0];
  const atStrength = variants.filter(({ multiplier }) => multiplier === strength);
  const mixed = atStrength.find((variant) => variant.file === file && variant.rank === own.maxRank)!;
  const uniform = atStrength
    .filter((variant) => adapters[variant.file]!.isDylora)
    .map((variant) => ({ ...variant, sizeBytes: adapters[variant.file]!.fileSizeBytes(variant.rank) }))
    .filter(({ sizeBytes }) => sizeBytes <= room)
    .reduce<{ file: number; rank: number; sizeBytes: number; losses: Float64Array } | null>(
      (largest, variant) => (largest === null || variant.sizeBytes > largest.sizeBytes ? variant : largest),
      null,
    );
  if (uniform === null) return null;
  const difference = comparison.difference(mixed.losses, uniform.losses);
  const verdict =
    difference.ciHigh < 0 ? "better than" : difference.ciLow > 0 ? "worse than" : "not shown to differ from";
  return {
    file: uniform.file,
    rank: uniform.rank,
    fileSizeBytes: uniform.sizeBytes,
    difference,
    sentence:
      `The mix of ranks is ${verdict} rank ${uniform.rank} everywhere (${names[uniform.file]}), which takes ` +
      `${Math.round((100 * uniform.sizeBytes) / own.fileSizeBytes(own.maxRank))} % of its size: ${describeDifference(difference)}.`,
  };
}
