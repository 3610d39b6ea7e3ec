/**
 * What the VAE makes of each image, computed once.
 */
import { createHash } from "node:crypto";
import pLimit from "p-limit";
import { DyloraError } from "../errors.js";
import { compareSizes, type Frame } from "./buckets.js";
import type { DatasetItem } from "./dataset.js";
import { decodeImage, IMAGE_PIPELINE, readImageFile } from "./image.js";
import { createLoader } from "./loader.js";
import type { ImageSize } from "./resolution.js";
import { SharedWork } from "./shared-work.js";
import { cacheKey, type TensorCache, type TensorRecord } from "./tensor-cache.js";

/**
 * The VAE's distribution of an image: mean and log-variance, `[channels, height, width]` each (height and width of
 * the latent), before the scaling factor.
 */
export interface LatentMoments {
  readonly mean: Float32Array;
  readonly logvar: Float32Array;
  readonly height: number;
  readonly width: number;
}

/** Width and height: the size of items that have no frame. */
export interface LatentCacheOptions extends ImageSize {
  /** `MemoryTensorCache` or `DiskTensorCache`. */
  cache: TensorCache;
  /**
   * Names the VAE's weights (for example their SHA-256) and whatever else changes its answer, such as its precision.
   */
  vaeIdentity: string;
  /** Runs the VAE's encoder on one image, `[3, height, width]` in [-1, 1]. Never called twice at the same time. */
  encode(image: Float32Array, height: number, width: number): Promise<LatentMoments>;
}

export interface FillOptions {
  /**
   * Also encode every image mirrored (`--flip_aug`): the VAE's answer to a mirrored image is not the mirrored answer.
   */
  flipAug?: boolean;
  /** Images decoded ahead of the encoder; as in the loader. */
  workers?: number;
  onProgress?: (done: number, total: number) => void;
  signal?: AbortSignal;
}

/**
 * Caches the moments of the VAE's distribution and not a latent drawn from it: each step still draws a fresh sample,
 * as training without a cache does. (sd-scripts caches one sample per image and trains on that one throughout.)
 *
 * An entry is keyed by the SHA-256 of the image file, its frame or size, mirroring, the way pixels are prepared, and the VAE.
 * Captions, folder names and repeats do not matter, so renaming `1_cat` to `10_cat` keeps the cache.
 */
export class LatentCache {
  readonly #options: LatentCacheOptions;
  /** SHA-256 of the image files that were asked for, so that a file is read once and not every epoch. */
  readonly #imageHashes = new Map<string, string>();
  /** The encoder has one set of buffers; images may be decoded side by side, but wait here for their turn. */
  readonly #encoderTurn = pLimit(1);
  readonly #reads = new SharedWork<LatentMoments>();
  #computedCount = 0;

  constructor(options: LatentCacheOptions) {
    this.#options = options;
  }

  /** Images that went through the encoder since this object was made: the ones that were not found in the cache. */
  get computedCount(): number {
    return this.#computedCount;
  }

  /**
   * Makes sure that every item is in the cache, so that training does not wait for the encoder. Items are encoded size
   * after size.
   *
   * @throws {DyloraError} the first image's error, or `E_WRITE` from the cache
   */
  async fill(items: readonly DatasetItem[], options: FillOptions = {}): Promise<void> {
    const { flipAug = false, workers, onProgress, signal } = options;
    const bySize = [...items].sort((a, b) => compareSizes(this.#frameOf(a), this.#frameOf(b)));
    const wanted = bySize.flatMap((item) =>
      (flipAug ? [false, true] : [false]).map((flip) => ({ item, flip })),
    );
    const loader = createLoader({
      endBatch: wanted.length,
      batchAt: (index) => [wanted[index]!],
      load: ({ item, flip }) => this.read(item, flip),
      ...(workers === undefined ? {} : { workers }),
      ...(signal === undefined ? {} : { signal }),
    });
    for await (const { index } of loader) onProgress?.(index + 1, wanted.length);
  }

  /**
   * The moments of an image: from the cache, or computed and put there.
   *
   * @throws {DyloraError} `E_NOT_FOUND`, `E_READ` or `E_FORMAT` for the image, `E_DIVERGED` if the encoder's answer
   *   is not finite
   */
  async read(item: DatasetItem, flip: boolean): Promise<LatentMoments> {
    const knownHash = this.#imageHashes.get(item.imagePath);
    const bytes = knownHash === undefined ? await readImageFile(item.imagePath) : null;
    const frame = this.#frameOf(item);
    const key = this.#keyOf(knownHash ?? this.#hash(item, bytes!), frame, flip);
    return this.#reads.run(key, async () => {
      const record = await this.#options.cache.get(key);
      const cached = record === null ? null : toMoments(record);
      return cached ?? this.#compute(item, flip, bytes);
    });
  }

  async #compute(item: DatasetItem, flip: boolean, knownBytes: Buffer | null): Promise<LatentMoments> {
    const { cache, encode } = this.#options;
    const path = item.imagePath;
    const frame = this.#frameOf(item);
    const bytes = knownBytes ?? (await readImageFile(path));
    const image = await decodeImage(bytes, path, { ...frame, flip });
    const moments = await this.#encoderTurn(() => encode(image, frame.height, frame.width));
    this.#computedCount++;
    if (![moments.mean, moments.logvar].every((values) => values.every(Number.isFinite))) {
      throw new DyloraError("E_DIVERGED", `encode image: the VAE's answer to ${path} is not finite`, {
        note: "The VAE's weights may not fit into float16 (try --vae with another one). Nothing was cached for this image.",
      });
    }
    const shape = [moments.mean.length / (moments.height * moments.width), moments.height, moments.width];
    // Hashed anew: if the file changed since it was first read, the entry belongs to what was encoded now.
    await cache.put(this.#keyOf(this.#hash(item, bytes), frame, flip), {
      mean: { shape, data: moments.mean },
      logvar: { shape, data: moments.logvar },
    });
    return moments;
  }

  #hash(item: DatasetItem, bytes: Uint8Array): string {
    const hash = createHash("sha256").update(bytes).digest("hex");
    this.#imageHashes.set(item.imagePath, hash);
    return hash;
  }

  #frameOf({ frame }: DatasetItem): PlannedSize {
    const { width, height } = this.#options;
    return frame ?? { width, height };
  }

  #keyOf(imageSha256: string, { width, height, scaled }: PlannedSize, flip: boolean): string {
    const { vaeIdentity } = this.#options;
    return cacheKey("latent moments", {
      imageSha256,
      width,
      height,
      ...(scaled && { scaled: [scaled.width, scaled.height] }),
      flip,
      pipeline: IMAGE_PIPELINE,
      vae: vaeIdentity,
    });
  }
}

/** A frame, or the size to be covered. */
type PlannedSize = ImageSize & Partial<Frame>;

/** Null for a record of another form, which is computed anew. */
function toMoments({ mean, logvar }: TensorRecord): LatentMoments | null {
  const [, height, width] = mean?.shape ?? [];
  if (mean === undefined || logvar === undefined || height === undefined || width === undefined) return null;
  return { mean: mean.data, logvar: logvar.data, height, width };
}
