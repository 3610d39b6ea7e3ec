/** Fetches modules for jobs. */
import type { Adapter, LoraModule } from "../../adapter/index.js";
import type { ModuleBytes } from "./module-jobs.js";

/** Factors begin at multiples of it: they are seen as numbers of up to so many bytes. */
const ALIGNMENT_BYTES = 8;

/**
 * Reads modules into memory that is used again and again: an adapter is many times larger than what is worked on at a time, and new
 * memory for every factor would stay until it is collected as garbage.
 */
export class ModuleReader {
  /** Shared memory: threads see it without a copy. */
  readonly #free: SharedArrayBuffer[] = [];
  readonly #sizeBytes: number;

  /** @param adapters - whose modules will be read */
  constructor(...adapters: readonly Adapter[]) {
    const sizes = adapters.flatMap(({ modules }) => modules.map(moduleBytes));
    this.#sizeBytes = sizes.reduce((max, size) => Math.max(max, size), 0);
  }

  /**
   * Calls `use` with a module as it is in the file. Its bytes may be used until the promise is settled.
   *
   * @throws {DyloraError} `E_READ`, and what `use` throws
   */
  async with<Result>(
    { file, path }: Adapter,
    module: LoraModule,
    use: (bytes: ModuleBytes) => Promise<Result>,
  ): Promise<Result> {
    const memory = this.#free.pop() ?? new SharedArrayBuffer(this.#sizeBytes);
    try {
      const down = new Uint8Array(memory, 0, module.down.sizeBytes);
      const up = new Uint8Array(memory, aligned(module.down.sizeBytes), module.up.sizeBytes);
      await Promise.all([file.readInto(module.down.name, 0, down), file.readInto(module.up.name, 0, up)]);
      return await use({
        subject: `${path}: module ${module.name}`,
        rank: module.rank,
        outFeatures: module.outFeatures,
        down,
        downDtype: module.down.dtype,
        up,
        upDtype: module.up.dtype,
      });
    } finally {
      this.#free.push(memory);
    }
  }
}

function moduleBytes({ down, up }: LoraModule): number {
  return aligned(down.sizeBytes) + up.sizeBytes;
}

function aligned(sizeBytes: number): number {
  return Math.ceil(sizeBytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
}

/** Size of all factors in the file. */
export function factorBytes({ modules }: Adapter): number {
  return modules.reduce((sum, { down, up }) => sum + down.sizeBytes + up.sizeBytes, 0);
}
