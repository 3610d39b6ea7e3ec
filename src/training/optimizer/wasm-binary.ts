/**
 * Just enough of WebAssembly's binary format (https://webassembly.github.io/spec/core/binary/) for a module of one function
 * that runs a loop over one memory.
 */

const VECTOR_BYTES = 16;
export const PAGE_BYTES = 65_536;

/** The part of the global that is used here: TypeScript has its types only together with a browser's. */
declare const WebAssembly: {
  Memory: new (descriptor: { initial: number }) => WasmMemory;
  Module: new (bytes: Uint8Array) => WasmModule;
  Instance: new (module: object, imports: object) => { readonly exports: Record<string, unknown> };
};

/** A `WebAssembly.Memory`. */
export interface WasmMemory {
  readonly buffer: ArrayBuffer;
}

/** A `WebAssembly.Module`. */
export type WasmModule = object & { readonly __brand?: "module" };

export const TYPE = { i32: 0x7f, f32: 0x7d, f64: 0x7c, v128: 0x7b } as const;

const simd = (code: number): number[] => [0xfd, ...unsigned(code)];

export const OP = {
  f32Const: [0x43],
  f64Add: [0xa0],
  v128Load: simd(0x00),
  v128Store: simd(0x0b),
  v128Load64Zero: simd(0x5d),
  v128And: simd(0x4e),
  f32x4Splat: simd(0x13),
  f32x4Lt: simd(0x43),
  f32x4Gt: simd(0x44),
  f32x4Sqrt: simd(0xe3),
  f32x4Add: simd(0xe4),
  f32x4Sub: simd(0xe5),
  f32x4Mul: simd(0xe6),
  f32x4Div: simd(0xe7),
  f64x2PromoteLow: simd(0x5f),
  f64x2ExtractLane: simd(0x21),
  f64x2Add: simd(0xf0),
  f64x2Mul: simd(0xf2),
} as const;

export interface FunctionDescription {
  parameters: readonly number[];
  result?: number;
  /** How many of which type. */
  locals: readonly (readonly [count: number, type: number])[];
  code: readonly number[];
}

export function createMemory(bytes: number): WasmMemory {
  return new WebAssembly.Memory({ initial: Math.ceil(bytes / PAGE_BYTES) });
}

/** A module of one function over a memory that is given to it. */
export function compileModule(description: FunctionDescription): WasmModule {
  const results = description.result === undefined ? [] : [[description.result]];
  const functionBody = [
    ...vector(description.locals.map(([count, type]) => [...unsigned(count), type])),
    ...description.code,
    0x0b, // end
  ];
  const bytes = new Uint8Array([
    ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00], // "\0asm", version 1
    ...section(1, [[0x60, ...vector(description.parameters.map((type) => [type])), ...vector(results)]]),
    ...section(2, [[...text("env"), ...text("memory"), 0x02, 0x00, 0x01]]),
    ...section(3, [[0x00]]),
    ...section(7, [[...text("run"), 0x00, 0x00]]),
    ...section(10, [[...unsigned(functionBody.length), ...functionBody]]),
  ]);
  return new WebAssembly.Module(bytes);
}

/** The function of a module over a memory. */
export function instantiate(module: WasmModule, memory: WasmMemory): (...parameters: number[]) => number {
  const instance = new WebAssembly.Instance(module, { env: { memory } });
  return instance.exports.run as (...parameters: number[]) => number;
}

/** Runs `body` for every vector from position 0 to the end that parameter 0 gives; at least once. */
export function loopOver(positionLocal: number, body: readonly number[]): number[] {
  return [
    ...[0x03, 0x40], // loop
    ...body,
    ...localGet(positionLocal),
    ...[0x41, VECTOR_BYTES, 0x6a], // i32.const 16, i32.add
    ...[0x22, ...unsigned(positionLocal)], // local.tee
    ...localGet(0),
    ...[0x49, 0x0d, 0x00], // i32.lt_u, br_if the loop
    0x0b, // end
  ];
}

export function localGet(local: number): number[] {
  return [0x20, ...unsigned(local)];
}

/** The sum of a 32-bit integer local and another, an address. */
export function addressOf(baseLocal: number, offsetLocal: number): number[] {
  return [...localGet(baseLocal), ...localGet(offsetLocal), 0x6a]; // i32.add
}

export function localSet(local: number): number[] {
  return [0x21, ...unsigned(local)];
}

/** Alignment hint (4 bytes) and a constant offset. */
export function memoryArgument(offset: number): number[] {
  return [2, ...unsigned(offset)];
}

function section(id: number, items: readonly (readonly number[])[]): number[] {
  const content = vector(items);
  return [id, ...unsigned(content.length), ...content];
}

function vector(items: readonly (readonly number[])[]): number[] {
  return [...unsigned(items.length), ...items.flat()];
}

function text(ascii: string): number[] {
  return [...unsigned(ascii.length), ...Buffer.from(ascii, "ascii")];
}

/** LEB128 of an unsigned 32-bit number. */
function unsigned(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  bytes.push(rest);
  return bytes;
}

export function float32Bytes(value: number): number[] {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return [...bytes];
}
