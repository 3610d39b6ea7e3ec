/** One pass over all tensors of a file: hashes, numbers that are no numbers, components that do nothing. */
import type { LoraModule } from "../../adapter/index.js";
import { throwIfAborted } from "../../io/index.js";
import {
  DTYPES,
  type Dtype,
  decodeToFloat32,
  type SafetensorsFile,
  sha256Stream,
} from "../../safetensors/index.js";
import { LegacyHash } from "../../safetensors/model-hashes.js";
import { layoutOf } from "../edit/edit.js";

export interface ScanOptions {
  readonly onProgress?: (progress: { readonly doneBytes: number; readonly totalBytes: number }) => void;
  readonly signal?: AbortSignal;
}

export interface NonFiniteTensor {
  readonly name: string;
  readonly count: number;
  /** Index of the first one, row-major. */
  readonly first: number;
}

export interface ScanResult {
  /** SHA-256 of everything behind the header. */
  readonly dataSha256: string;
  /** What `sshs_legacy_hash` must be. */
  readonly legacyHash: string;
  readonly nonFinite: readonly NonFiniteTensor[];
  /** By name, for the modules whose factors are in the file: how many of its components (a row of down times a column of up) are not zero. */
  readonly liveComponents: ReadonlyMap<string, number>;
}

/** A factor and how its components lie in it: element `i` belongs to component `floor(i / stride) % rank`. */
interface FactorLayout {
  readonly rank: number;
  readonly stride: number;
  /** By component: 1 where any element is not zero. */
  readonly live: Uint8Array;
}

/**
 * Reads a file's data once, a megabyte at a time.
 *
 * @param modules - whose components are looked at; those of other files are passed over
 * @param prefix - what the modules' tensors are called more than in this file
 * @throws {DyloraError} `E_READ`, `E_INTERRUPTED`
 */
export async function scanTensors(
  file: SafetensorsFile,
  modules: readonly LoraModule[],
  prefix: string,
  options: ScanOptions = {},
): Promise<ScanResult> {
  const hash = sha256Stream();
  const legacyHash = new LegacyHash(layoutOf(file.header), file.header.metadata ?? {});
  const factors = new Map<string, FactorLayout>();
  const here = modules.filter(
    ({ down }) => down.name.startsWith(prefix) && file.header.tensors.has(down.name.slice(prefix.length)),
  );
  for (const { rank, down, up, inFeatures, kind } of here) {
    const columns = inFeatures * (kind === "conv3x3" ? 9 : 1);
    factors.set(down.name, { rank, stride: columns, live: new Uint8Array(rank) });
    factors.set(up.name, { rank, stride: 1, live: new Uint8Array(rank) });
  }
  const nonFinite: NonFiniteTensor[] = [];
  const totalBytes = file.sizeBytes - file.header.dataStartBytes;
  let doneBytes = 0;
  for (const { name, dtype } of file.header.tensors.values()) {
    const tensor = new TensorScan(name, factors.get(prefix + name) ?? null);
    for await (const bytes of file.stream(name)) {
      throwIfAborted(options.signal, `verify ${file.path}`);
      await hash.update(bytes);
      legacyHash.update(bytes);
      if (isFloat(dtype)) tensor.read(decodeToFloat32(bytes, dtype), wideFloats(bytes, dtype));
      doneBytes += bytes.length;
      options.onProgress?.({ doneBytes, totalBytes });
    }
    if (tensor.nonFiniteCount > 0) {
      nonFinite.push({ name: prefix + name, count: tensor.nonFiniteCount, first: tensor.firstNonFinite });
    }
  }
  const liveComponents = new Map(
    here.map(({ name, down, up }) => {
      const [inDown, inUp] = [factors.get(down.name)!.live, factors.get(up.name)!.live];
      return [name, inDown.reduce((count, live, k) => count + (live & inUp[k]!), 0)] as const;
    }),
  );
  return { dataSha256: await hash.digest(), legacyHash: legacyHash.digest(), nonFinite, liveComponents };
}

class TensorScan {
  nonFiniteCount = 0;
  firstNonFinite = -1;
  readonly #factor: FactorLayout | null;
  #position = 0;

  constructor(
    readonly name: string,
    factor: FactorLayout | null,
  ) {
    this.#factor = factor;
  }

  /** @param wide - the numbers as they are in the file, where float32 could not hold them */
  read(values: Float32Array, wide: Float64Array | null): void {
    for (let i = 0; i < values.length; i++) {
      const value = wide === null ? values[i]! : wide[i]!;
      // Infinity minus itself is NaN, as is everything that is not finite.
      if (value - value === 0) continue;
      if (this.nonFiniteCount++ === 0) this.firstNonFinite = this.#position + i;
    }
    if (this.#factor !== null) this.#findLive(values, this.#factor);
    this.#position += values.length;
  }

  #findLive(values: Float32Array, { rank, stride, live }: FactorLayout): void {
    let component = Math.floor(this.#position / stride) % rank;
    let left = stride - (this.#position % stride);
    for (let i = 0; i < values.length; i++) {
      if (values[i] !== 0) live[component] = 1;
      if (--left > 0) continue;
      left = stride;
      component = component + 1 === rank ? 0 : component + 1;
    }
  }
}

/** Floating point numbers of whole bytes. */
function isFloat(dtype: Dtype): boolean {
  const { kind, bits } = DTYPES[dtype];
  return kind === "float" && bits >= 8;
}

/** A float64 can be finite and infinite as float32. */
function wideFloats(bytes: Uint8Array, dtype: Dtype): Float64Array | null {
  return dtype === "F64" ? new Float64Array(bytes.slice().buffer) : null;
}
