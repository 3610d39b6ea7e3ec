/** Two checkpoints, weight by weight. */
import { BASE_MODEL_TITLES } from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";
import { PositionalFile, throwIfAborted } from "../../io/index.js";
import type { WeightRef, Weights } from "../../models/checkpoint/index.js";
import { type Dtype, decodeToFloat32 } from "../../safetensors/index.js";
import type { ModelPartName, ModelWeights } from "../merge/model.js";

/** A weight that both checkpoints have. */
export interface WeightPair {
  readonly part: ModelPartName;
  /** As in `ModelWeights.parts`. */
  readonly name: string;
  readonly base: WeightRef;
  readonly tuned: WeightRef;
}

/** How far apart the two are. Norms are Frobenius norms. */
export interface WeightDifference extends WeightPair {
  /** `norm(tuned - base)` */
  readonly norm: number;
  /** `norm(base)` */
  readonly baseNorm: number;
  /** Largest magnitude of any element of the difference. */
  readonly maxAbs: number;
  /**
   * What rounding alone can make: where one checkpoint is stored in a coarser type than the other, that type's unit roundoff
   * times the weight's norm; 0 where both have the same type.
   */
  readonly roundingNorm: number;
}

/** Numbers of a weight in memory at once. */
const CHUNK_ELEMENTS = 1 << 20;

/** Largest relative error of rounding to the type. */
const UNIT_ROUNDOFF: Readonly<Partial<Record<Dtype, number>>> = {
  F16: 2 ** -11,
  BF16: 2 ** -8,
  F32: 2 ** -24,
};

/**
 * Pairs the weights of two checkpoints of the same structure.
 *
 * @returns the pairs, and the parts that only one of the two has (a VAE that was left out)
 * @throws {DyloraError} `E_INCOMPATIBLE` where names or shapes differ
 */
export function pairWeights(
  base: ModelWeights,
  tuned: ModelWeights,
): { readonly pairs: readonly WeightPair[]; readonly unpaired: readonly ModelPartName[] } {
  if (base.family !== tuned.family) {
    throw different(
      base,
      tuned,
      `one is ${BASE_MODEL_TITLES[base.family]}, the other ${BASE_MODEL_TITLES[tuned.family]}`,
    );
  }
  if (base.family === "sdxl" && base.layout !== tuned.layout) {
    throw different(base, tuned, "of SDXL, one is a single file and the other a diffusers folder");
  }
  const pairs: WeightPair[] = [];
  const unpaired: ModelPartName[] = [];
  const addPart = (part: ModelPartName, inBase: Weights | undefined, inTuned: Weights | undefined) => {
    if (inBase === undefined || inTuned === undefined) {
      if (inBase !== inTuned) unpaired.push(part);
      return;
    }
    for (const name of new Set([...inBase.keys(), ...inTuned.keys()])) {
      const [a, b] = [inBase.get(name), inTuned.get(name)];
      if (a === undefined || b === undefined) {
        throw different(base, tuned, `only ${(a === undefined ? tuned : base).path} has ${part} ${name}`);
      }
      if (a.shape.join() !== b.shape.join() && elements(a) !== elements(b)) {
        throw different(
          base,
          tuned,
          `${part} ${name} is [${a.shape.join(", ")}] and [${b.shape.join(", ")}]`,
        );
      }
      pairs.push({ part, name, base: a, tuned: b });
    }
  };
  for (const part of new Set([...base.parts.keys(), ...tuned.parts.keys()])) {
    addPart(part, base.parts.get(part), tuned.parts.get(part));
  }
  return { pairs, unpaired };
}

export interface MeasureOptions {
  readonly onProgress?: (progress: { readonly doneBytes: number; readonly totalBytes: number }) => void;
  readonly signal?: AbortSignal;
}

/** Reads both checkpoints once, a few megabytes at a time. */
export async function measureDifferences(
  reader: WeightReader,
  pairs: readonly WeightPair[],
  options: MeasureOptions = {},
): Promise<WeightDifference[]> {
  const totalBytes = pairs.reduce((sum, { base, tuned }) => sum + base.sizeBytes + tuned.sizeBytes, 0);
  const differences: WeightDifference[] = [];
  let doneBytes = 0;
  for (const pair of pairs) {
    throwIfAborted(options.signal, "diff");
    differences.push(await measure(reader, pair));
    doneBytes += pair.base.sizeBytes + pair.tuned.sizeBytes;
    options.onProgress?.({ doneBytes, totalBytes });
  }
  return differences;
}

async function measure(reader: WeightReader, pair: WeightPair): Promise<WeightDifference> {
  let [norm, baseNorm, maxAbs] = [0, 0, 0];
  for (let begin = 0; begin < elements(pair.base); begin += CHUNK_ELEMENTS) {
    const end = Math.min(begin + CHUNK_ELEMENTS, elements(pair.base));
    const base = await reader.read(pair.base, begin, end);
    const tuned = await reader.read(pair.tuned, begin, end);
    for (let i = 0; i < base.length; i++) {
      const difference = tuned[i]! - base[i]!;
      norm += difference * difference;
      baseNorm += base[i]! * base[i]!;
      maxAbs = Math.max(maxAbs, Math.abs(difference));
    }
  }
  if (!Number.isFinite(norm) || !Number.isFinite(baseNorm)) throw notFinite(pair);
  const coarsest = Math.max(UNIT_ROUNDOFF[pair.base.dtype]!, UNIT_ROUNDOFF[pair.tuned.dtype]!);
  return {
    ...pair,
    norm: Math.sqrt(norm),
    baseNorm: Math.sqrt(baseNorm),
    maxAbs,
    roundingNorm: pair.base.dtype === pair.tuned.dtype ? 0 : coarsest * Math.sqrt(baseNorm),
  };
}

/** `tuned - base`, row-major. */
export async function readDifference(
  reader: WeightReader,
  { base, tuned }: WeightPair,
): Promise<Float32Array> {
  const difference = await reader.read(tuned, 0, elements(tuned));
  const original = await reader.read(base, 0, elements(base));
  for (let i = 0; i < difference.length; i++) difference[i] = difference[i]! - original[i]!;
  return difference;
}

/** Reads weights out of any number of files, each of which is opened once. */
export class WeightReader {
  readonly #files = new Map<string, Promise<PositionalFile>>();

  /** Elements `[begin, end)` as float32, in memory of their own. @throws {DyloraError} `E_NOT_FOUND`, `E_READ` */
  async read(weight: WeightRef, begin: number, end: number): Promise<Float32Array> {
    const { filePath, dtype, offsetBytes, sizeBytes } = weight;
    const elementBytes = sizeBytes / elements(weight);
    const bytes = new Uint8Array((end - begin) * elementBytes);
    let file = this.#files.get(filePath);
    if (file === undefined) {
      file = PositionalFile.open(filePath);
      this.#files.set(filePath, file);
    }
    await (await file).read(bytes, offsetBytes + begin * elementBytes);
    return decodeToFloat32(bytes, dtype);
  }

  async close(): Promise<void> {
    const files = [...this.#files.values()];
    this.#files.clear();
    for (const file of files) await (await file.catch(() => null))?.close();
  }
}

export function elements({ shape }: WeightRef): number {
  return shape.reduce((product, size) => product * size, 1);
}

function different(base: ModelWeights, tuned: ModelWeights, problem: string): DyloraError {
  return new DyloraError("E_INCOMPATIBLE", `diff ${base.path} ${tuned.path}: ${problem}`, {
    note: "Nothing was written. Give the base model that the tuned one was made from.",
  });
}

function notFinite({ part, name, base, tuned }: WeightPair): DyloraError {
  return new DyloraError(
    "E_INCOMPATIBLE",
    `diff: ${part} ${name} holds infinity or NaN in ${base.filePath} or ${tuned.filePath}`,
    { note: "Nothing was written. `dylora verify` says which tensors are damaged." },
  );
}
