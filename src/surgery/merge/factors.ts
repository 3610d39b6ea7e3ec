/** The factors of a sum of adapters: by concatenation, which loses nothing, or cut down to a rank. */
import { type Adapter, transpose } from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";
import { productSvd, type TruncatedFactors } from "../../linalg/product-svd.js";
import type { MergeModule, MergeTerm } from "./terms.js";

/** How a module is written so that a loader's `alpha / rank` gives back every term's own scale. */
export interface ConcatenatedModule {
  /** Sum of the terms' ranks. */
  readonly rank: number;
  readonly alpha: number;
  /** By term: what its up factor is multiplied with. At most 1 in magnitude; the sign of the ratio is here. */
  readonly factors: readonly number[];
}

/**
 * Folds the terms' scales into alpha and the up factors.
 *
 * A loader multiplies the whole module by `alpha / rank`, so with `alpha = rank · max |scale|` the strongest term keeps its
 * factors as they are, and the others shrink by what they are weaker: `factor = scale · rank / alpha`. Down factors are never
 * touched: a ratio that went into both would count twice.
 *
 * @throws {DyloraError} `E_USAGE` where float32 cannot hold the alpha
 */
export function concatenate(sum: MergeModule): ConcatenatedModule {
  const { name, terms } = sum;
  const rank = totalRank(sum);
  const strongest = terms.reduce((max, { scale }) => Math.max(max, Math.abs(scale)), 0);
  // As it will stand in the file, so that the factors make up for its rounding.
  const alpha = Math.fround(rank * strongest);
  if (!(alpha > 0 && Number.isFinite(alpha))) {
    throw new DyloraError("E_USAGE", `merge: the strengths of module ${name} make an alpha of ${alpha}`, {
      note: "Nothing was written. Choose ratios of a usual size.",
    });
  }
  return { rank, alpha, factors: terms.map(({ scale }) => snapToOne((scale * rank) / alpha)) };
}

/** Rank of the concatenation. */
export function totalRank({ terms }: MergeModule): number {
  return terms.reduce((sum, { module }) => sum + module.rank, 0);
}

/** A factor that differs from 1 only by the rounding of alpha is 1: the term's bytes stay as they are. */
function snapToOne(factor: number): number {
  return Math.abs(Math.abs(factor) - 1) < 1e-7 ? Math.sign(factor) : factor;
}

/** `[R, I]`: the terms' down factors, one below the other. */
export async function concatenatedDown({ terms }: MergeModule): Promise<Float32Array> {
  return joined(await Promise.all(terms.map(readDown)));
}

/** `[R, O]`: the terms' transposed up factors times their factors, one below the other. */
export async function concatenatedUpT(
  { terms }: MergeModule,
  factors: readonly number[],
): Promise<Float32Array> {
  const parts = await Promise.all(terms.map(readUpT));
  for (const [i, part] of parts.entries()) {
    const factor = factors[i]!;
    if (factor === 1) continue;
    for (let k = 0; k < part.length; k++) part[k] = part[k]! * factor;
  }
  return joined(parts);
}

/** A sum cut down to a rank, to be written with alpha = rank. */
export interface TruncatedModule extends TruncatedFactors {
  /** `norm(cut off) / norm(sum)`: 0 where nothing was, or where the sum is zero. */
  readonly error: number;
}

/** The best approximation of a sum that has the rank, by its singular values; the sum itself is never formed. */
export async function truncatedFactors(sum: MergeModule, rank: number): Promise<TruncatedModule> {
  const down = await concatenatedDown(sum);
  const upT = await concatenatedUpT(
    sum,
    sum.terms.map(({ scale }) => scale),
  );
  requireFinite(upT, sum.name);
  const svd = productSvd({ down, upT }, totalRank(sum), rank);
  const energy = (values: Float64Array) => values.reduce((total, value) => total + value * value, 0);
  const [total, lost] = [energy(svd.singularValues), energy(svd.singularValues.subarray(rank))];
  const factors = svd.truncate(rank);
  requireFinite(factors.down, sum.name);
  requireFinite(factors.upT, sum.name);
  return { ...factors, error: total === 0 ? 0 : Math.sqrt(lost / total) };
}

/** Numbers near the end of float32 leave it when they are multiplied. */
function requireFinite(values: Float32Array, module: string): void {
  if (firstNonFinite(values) < 0) return;
  throw new DyloraError(
    "E_INCOMPATIBLE",
    `merge: module ${module} times its strength is too large for float32`,
    {
      note: "Nothing was written. Its numbers are none that a trainer writes: `dylora verify` tells more.",
    },
  );
}

function readDown({ adapter, module }: MergeTerm): Promise<Float32Array> {
  return readFinite(adapter, module.down.name);
}

async function readUpT({ adapter, module }: MergeTerm): Promise<Float32Array> {
  return transpose(await readFinite(adapter, module.up.name), module.outFeatures, module.rank);
}

/**
 * A factor as float32.
 *
 * @throws {DyloraError} `E_FORMAT` where it holds infinity or NaN, which would spread over the whole sum
 */
export async function readFinite({ file, path }: Adapter, name: string): Promise<Float32Array> {
  const values = await file.readFloat32(name);
  const index = firstNonFinite(values);
  if (index < 0) return values;
  throw new DyloraError("E_FORMAT", `merge: ${path}: ${name} holds ${values[index]}`, {
    note: "Nothing was written. A training run that diverged writes such files: `dylora verify` lists what is damaged.",
  });
}

/** A plain loop: a callback for each of a hundred million numbers takes seconds. */
function firstNonFinite(values: Float32Array): number {
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    // Infinity minus itself is NaN, as is everything that is not finite.
    if (value - value !== 0) return i;
  }
  return -1;
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const [first] = parts;
  if (parts.length === 1) return first!;
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let offset = 0;
  for (const part of parts) {
    all.set(part, offset);
    offset += part.length;
  }
  return all;
}
