/**
 * Memory that update kernels work in.
 *
 * A kernel reads and writes one WebAssembly memory. Arrays that lie in it are updated where they are; others are copied in and out
 * piece by piece, which takes several times as long as the update itself.
 */

import { internalError } from "../../errors.js";
import { createMemory, PAGE_BYTES, type WasmMemory } from "./wasm-binary.js";

/** Elements of an array outside that are worked on at once: small enough that all arrays of a kernel stay in the L2 cache. */
export const CHUNK_ELEMENTS = 4096;
const CHUNK_BYTES = CHUNK_ELEMENTS * Float32Array.BYTES_PER_ELEMENT;
/** Arrays of one kernel. */
const MOST_ARRAYS = 8;
/** Vectors of an array begin where a cache line does. */
const ALIGNMENT_BYTES = 64;

/** A memory has at most 4 GiB; with less, nothing is lost but the room behind its last array. */
const MOST_BYTES = 2 ** 30;

export class KernelMemory {
  readonly wasm: WasmMemory;
  /** Where pieces of arrays outside are copied to. */
  readonly windows: readonly Float32Array[];
  #usedBytes = MOST_ARRAYS * CHUNK_BYTES;

  /** @param arrayBytes - of the arrays that will be allocated in it */
  constructor(arrayBytes: number) {
    this.wasm = createMemory(MOST_ARRAYS * CHUNK_BYTES + arrayBytes);
    this.windows = Array.from(
      { length: MOST_ARRAYS },
      (_, index) => new Float32Array(this.wasm.buffer, index * CHUNK_BYTES, CHUNK_ELEMENTS),
    );
    memories.set(this.wasm.buffer, this);
  }

  /** The memory that an array lies in, if it is one of these. */
  static of(array: Float32Array): KernelMemory | undefined {
    return memories.get(array.buffer);
  }

  allocate(length: number): Float32Array {
    const array = new Float32Array(this.wasm.buffer, this.#usedBytes, length);
    this.#usedBytes += alignedBytes(length);
    return array;
  }
}

const memories = new WeakMap<ArrayBufferLike, KernelMemory>();

/**
 * Arrays of zeros that kernels update where they are. Arrays of one group lie in one memory.
 *
 * @param groups - the lengths of the arrays that are updated together
 */
export function allocateForKernels(groups: readonly (readonly number[])[]): Float32Array[][] {
  const sizes = groups.map((lengths) => lengths.reduce((total, length) => total + alignedBytes(length), 0));
  const arrays: Float32Array[][] = [];
  for (let first = 0; first < groups.length; ) {
    let last = first;
    let bytes = 0;
    while (last < groups.length && (last === first || bytes + sizes[last]! <= MOST_BYTES))
      bytes += sizes[last++]!;
    const memory = new KernelMemory(bytes);
    for (const lengths of groups.slice(first, last))
      arrays.push(lengths.map((length) => memory.allocate(length)));
    first = last;
  }
  return arrays;
}

/** The one for kernels whose arrays all lie elsewhere. */
let outside: KernelMemory | undefined;
export function memoryOutside(): KernelMemory {
  outside ??= new KernelMemory(PAGE_BYTES);
  return outside;
}

export function checkArrayCount(count: number): void {
  if (count > MOST_ARRAYS)
    throw internalError(`a kernel of ${count} arrays; there is room for ${MOST_ARRAYS}`);
}

function alignedBytes(length: number): number {
  const bytes = length * Float32Array.BYTES_PER_ELEMENT;
  return Math.ceil(bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
}
