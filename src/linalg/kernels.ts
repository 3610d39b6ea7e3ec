/**
 * The arithmetic on matrices, as WebAssembly SIMD, and the memory that it works on.
 *
 * A Gram matrix of 128 x 1280 runs at 12 to 16 GFLOP/s in float64, a product in float32 at twice that; written in TypeScript, which V8
 * compiles to scalar code, at 1.2 (Node 20, one core of a 2.4 GHz EPYC 7003). A resize spends most of its time here. Loops over
 * whole matrices are here, too: interpreted and then compiled on every thread, they cost more than they compute.
 *
 * All kernels work on one memory, the workspace: whoever calls them lays out matrices in it from address 0, and what it held
 * before is lost. Lengths of vectors are multiples of `LANES`, which zeros fill up.
 */
import { type ConversionKind, conversionKernel, type StoredFormat } from "./conversion-kernels.js";
import {
  eigenvalues,
  eliminateShifted,
  findAtMost,
  inverseIteration,
  normalise,
  qlStep,
  removeParts,
  solveShifted,
} from "./eigen-kernels.js";
import {
  cholesky,
  eliminateRows,
  eliminateUpper,
  invertLower,
  transposeTriangle,
} from "./elimination-kernels.js";
import { ELEMENT_BYTES, roundUp } from "./layout.js";
import { combineBlock, DOUBLE, dotBlock, type ElementType, packPanel, SINGLE } from "./product-kernels.js";
import { reflectBack, reflectRows, tridiagonalise, updateAndMultiply } from "./reflection-kernels.js";
import { reflectColumns, rotateRows } from "./svd-kernels.js";
import { addVectors, dot } from "./vector-kernels.js";
import { createMemory, instantiate, PAGE_BYTES } from "./wasm-code.js";

/** A line of a processor's cache. */
const AREA_BYTES = 64;

const memory = createMemory(PAGE_BYTES);

const FUNCTIONS = {
  dot: dot(),
  addVectors: addVectors(),
  dotBlock: dotBlock(),
  combineBlock: combineBlock(DOUBLE),
  combineBlockSingle: combineBlock(SINGLE),
  packPanel: packPanel(DOUBLE),
  packPanelSingle: packPanel(SINGLE),
  eliminateRows: eliminateRows(),
  eliminateUpper: eliminateUpper(),
  transposeTriangle: transposeTriangle(),
  cholesky: cholesky(),
  invertLower: invertLower(),
  reflectRows: reflectRows(),
  reflectColumns: reflectColumns(),
  rotateRows: rotateRows(),
  updateAndMultiply: updateAndMultiply(),
  tridiagonalise: tridiagonalise(),
  reflectBack: reflectBack(),
  qlStep: qlStep(),
  findAtMost: findAtMost(),
  eigenvalues: eigenvalues(),
  eliminateShifted: eliminateShifted(),
  solveShifted: solveShifted(),
  removeParts: removeParts(),
  normalise: normalise(),
  inverseIteration: inverseIteration(),
};

type Kernel = (...parameters: number[]) => number;

/** Addresses are in bytes: 8 times the index in the workspace. */
export const kernels = instantiate(FUNCTIONS, memory) as Record<keyof typeof FUNCTIONS, Kernel>;

type Conversions = Record<ConversionKind, Partial<Record<StoredFormat, Kernel>>>;
const noConversions = (): Conversions => ({
  expandRows: {},
  expandColumns: {},
  compressRows: {},
  compressColumns: {},
});
const [doubleConversions, singleConversions] = [noConversions(), noConversions()];

/** Made when it is needed: of two dozen, a file needs six. */
export function conversion(kind: ConversionKind, format: StoredFormat, type: ElementType): Kernel {
  const made = (type === SINGLE ? singleConversions : doubleConversions)[kind];
  made[format] ??= instantiate({ [kind]: conversionKernel(kind, format, type) }, memory)[kind]!;
  return made[format];
}

let doubles = new Float64Array(memory.buffer);
let singles = new Float32Array(memory.buffer);
let bytes = new Uint8Array(memory.buffer);

/** The workspace, with room for this many float64. It holds whatever was left in it. */
export function workspace(elements: number): Float64Array {
  reserve(elements * ELEMENT_BYTES);
  return doubles;
}

/** The workspace as numbers of a type. Views are stale as soon as more room is asked for. */
export function numbersOf(type: typeof DOUBLE): Float64Array;
export function numbersOf(type: ElementType): Float64Array | Float32Array;
export function numbersOf(type: ElementType): Float64Array | Float32Array {
  return type === SINGLE ? singles : doubles;
}

export function workspaceBytes(): Uint8Array {
  return bytes;
}

/**
 * Room for areas of these sizes, side by side. It holds whatever was left in it.
 *
 * @param sizes - in bytes
 * @returns addresses
 */
export function allot<Sizes extends number[]>(...sizes: Sizes): { [Index in keyof Sizes]: number } {
  const addresses: number[] = [];
  let end = 0;
  for (const size of sizes) {
    addresses.push(end);
    end += roundUp(size, AREA_BYTES);
  }
  reserve(end);
  return addresses as { [Index in keyof Sizes]: number };
}

function reserve(sizeBytes: number): void {
  const missingBytes = sizeBytes - memory.buffer.byteLength;
  if (missingBytes <= 0) return;
  memory.grow(Math.ceil(missingBytes / PAGE_BYTES));
  doubles = new Float64Array(memory.buffer);
  singles = new Float32Array(memory.buffer);
  bytes = new Uint8Array(memory.buffer);
}

/** Copies a matrix between rows of different distances. What is wider in the target becomes zero. */
export function copyRows(
  source: Float64Array,
  rows: number,
  sourceStride: number,
  target: Float64Array,
  targetStride: number,
): void {
  if (sourceStride === targetStride) {
    target.set(source.length === rows * sourceStride ? source : source.subarray(0, rows * sourceStride));
    return;
  }
  const columns = Math.min(sourceStride, targetStride);
  target.fill(0, 0, rows * targetStride);
  for (let i = 0; i < rows; i++) {
    target.set(source.subarray(i * sourceStride, i * sourceStride + columns), i * targetStride);
  }
}

/** Address of an element of the workspace, in bytes. */
export function address(index: number): number {
  return index * ELEMENT_BYTES;
}
