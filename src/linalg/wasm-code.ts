/**
 * Just enough of WebAssembly's binary format (https://webassembly.github.io/spec/core/binary/) to write small loops over
 * vectors of two float64 or four float32.
 *
 * `Code` is a sequence of instruction bytes, in pieces that are put together only in the end. What leaves a value on the stack is
 * named like the value (`get`, `add`); what does not is named like a command (`set`, `store`).
 */

export type Code = readonly (number | Code | Callee)[];

/** The place of a function's index, which is known when the module is put together. */
interface Callee {
  readonly callee: string;
}

/** The part of the global that is used here: TypeScript has its types only together with a browser's. */
declare const WebAssembly: {
  Memory: new (descriptor: { initial: number }) => WasmMemory;
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: object) => { readonly exports: Record<string, unknown> };
};

export interface WasmMemory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): number;
}

export const PAGE_BYTES = 65_536;

export const TYPE = { i32: 0x7f, f64: 0x7c, v128: 0x7b } as const;
type ValueType = (typeof TYPE)[keyof typeof TYPE];

/** A parameter or local variable of a function. */
export interface Local {
  readonly index: number;
  readonly type: ValueType;
}

export interface FunctionDescription {
  readonly parameters: readonly ValueType[];
  readonly locals: readonly ValueType[];
  readonly result?: ValueType;
  readonly code: Code;
}

/** So many variables. */
type Locals<Count extends number, Found extends Local[] = []> = number extends Count
  ? Local[]
  : Found["length"] extends Count
    ? Found
    : Locals<Count, [...Found, Local]>;

/** Collects the variables of a function while its code is written. Parameters first. */
export class Variables {
  readonly #parameters: ValueType[] = [];
  readonly #locals: ValueType[] = [];

  parameter(type: ValueType): Local {
    if (this.#locals.length > 0) throw new Error("internal: parameters come before locals");
    return { index: this.#parameters.push(type) - 1, type };
  }

  parameters<Count extends number>(count: Count, type: ValueType): Locals<Count> {
    return Array.from({ length: count }, () => this.parameter(type)) as Locals<Count>;
  }

  /** Zero when the function begins. */
  local(type: ValueType): Local {
    return { index: this.#parameters.length + this.#locals.push(type) - 1, type };
  }

  locals<Count extends number>(count: Count, type: ValueType): Locals<Count> {
    return Array.from({ length: count }, () => this.local(type)) as Locals<Count>;
  }

  describe(code: Code, result?: ValueType): FunctionDescription {
    const description = { parameters: this.#parameters, locals: this.#locals, code };
    return result === undefined ? description : { ...description, result };
  }
}

const simd = (code: number): Code => [0xfd, unsigned(code)];
/** log2 of 8 bytes: what every address here is a multiple of. */
const ALIGNMENT = 3;

export const get = ({ index }: Local): Code => [0x20, unsigned(index)];
export const set = ({ index }: Local, value: Code): Code => [value, 0x21, unsigned(index)];

/** Calls another function of the same module. */
export const call = (callee: string, ...parameters: readonly Code[]): Code => [
  ...parameters,
  0x10,
  { callee },
];
/** Ends the function with a result. */
export const leave = (result: Code): Code => [result, 0x0f];
/** Does `then` where the condition is not 0. */
export const doIf = (condition: Code, then: Code, otherwise: Code = []): Code => [
  condition,
  ...[0x04, 0x40],
  then,
  ...(otherwise.length === 0 ? [] : [0x05, otherwise]),
  0x0b,
];

export const intConstant = (value: number): Code => [0x41, signed(value)];
export const intAdd = (a: Code, b: Code): Code => [a, b, 0x6a];
export const intSub = (a: Code, b: Code): Code => [a, b, 0x6b];
export const intMul = (a: Code, b: Code): Code => [a, b, 0x6c];
export const shiftRightInt = (a: Code, bits: number): Code => [a, intConstant(bits), 0x76];
/** Comparisons give 1 or 0. */
export const intEquals = (a: Code, b: Code): Code => [a, b, 0x46];
/** Of unsigned integers. */
export const intLess = (a: Code, b: Code): Code => [a, b, 0x49];
export const not = (a: Code): Code => [a, 0x45];
/** The last multiple of a power of two up to a number. */
export const roundDown = (a: Code, powerOfTwo: number): Code => [a, intConstant(-powerOfTwo), 0x71];
/** Adds a constant to an `i32` variable. */
export const advance = (local: Local, by: number): Code => set(local, intAdd(get(local), intConstant(by)));

/** A vector at an address: two float64, or four float32. */
export const load = (address: Code, offsetBytes = 0): Code => [
  address,
  simd(0x00),
  ALIGNMENT,
  unsigned(offsetBytes),
];
/** One float32 at an address, in all four lanes. */
export const loadSplatSingle = (address: Code, offsetBytes = 0): Code => [
  address,
  simd(0x09),
  2,
  unsigned(offsetBytes),
];
/** One float64 at an address, in both lanes. */
export const loadSplat = (address: Code, offsetBytes = 0): Code => [
  address,
  simd(0x0a),
  ALIGNMENT,
  unsigned(offsetBytes),
];
export const store = (address: Code, value: Code, offsetBytes = 0): Code => [
  address,
  value,
  simd(0x0b),
  ALIGNMENT,
  unsigned(offsetBytes),
];
/** One float64. */
export const loadNumber = (address: Code, offsetBytes = 0): Code => [
  address,
  0x2b,
  ALIGNMENT,
  unsigned(offsetBytes),
];
export const storeNumber = (address: Code, value: Code, offsetBytes = 0): Code => [
  address,
  value,
  0x39,
  ALIGNMENT,
  unsigned(offsetBytes),
];

/** Four unsigned 16-bit integers at an address, as 32-bit ones. */
export const loadShorts = (address: Code): Code => [address, simd(0x04), 1, 0];
/** Stores the first half of a vector. */
export const storeHalf = (address: Code, value: Code): Code => [address, value, simd(0x5b), 1, 0, 0];

/** Operations on four 32-bit integers. */
export const intVector = (value: number): Code => [intConstant(value), simd(0x11)];
export const intVectorAdd = (a: Code, b: Code): Code => [a, b, simd(0xae)];
export const intVectorSub = (a: Code, b: Code): Code => [a, b, simd(0xb1)];
export const shiftLeft = (a: Code, bits: number): Code => [a, intConstant(bits), simd(0xab)];
export const shiftRight = (a: Code, bits: number): Code => [a, intConstant(bits), simd(0xad)];
/** All bits of a lane where the comparison (of signed integers) holds, none where it does not. */
export const equal = (a: Code, b: Code): Code => [a, b, simd(0x37)];
export const greater = (a: Code, b: Code): Code => [a, b, simd(0x3b)];
export const and = (a: Code, b: Code): Code => [a, b, simd(0x4e)];
export const or = (a: Code, b: Code): Code => [a, b, simd(0x50)];
/** Bits of `a` where `mask` has them set, else of `b`. */
export const choose = (mask: Code, a: Code, b: Code): Code => [a, b, mask, simd(0x52)];
/** Eight 32-bit integers below 65536 as 16-bit ones. */
export const narrow = (a: Code, b: Code): Code => [a, b, simd(0x86)];

/** Of four float32. */
export const singleAdd = (a: Code, b: Code): Code => [a, b, simd(0xe4)];
export const singleMul = (a: Code, b: Code): Code => [a, b, simd(0xe6)];
export const singleSub = (a: Code, b: Code): Code => [a, b, simd(0xe5)];
/** The first two float32 of a vector as float64, and back with zeros behind. */
export const promote = (a: Code): Code => [a, simd(0x5f)];
export const demote = (a: Code): Code => [a, simd(0x5e)];
/** Bytes of two vectors, those of the second one from 16 on. */
const shuffle = (a: Code, b: Code, parts: readonly number[], partBytes: number): Code => [
  a,
  b,
  simd(0x0d),
  ...parts.flatMap((part) => Array.from({ length: partBytes }, (_, i) => part * partBytes + i)),
];
/** The last half of a vector, twice. */
export const lastHalf = (a: Code): Code => shuffle(a, a, [1, 1], 8);
/** The first halves of two vectors. */
export const firstHalves = (a: Code, b: Code): Code => shuffle(a, b, [0, 2], 8);
export const lastHalves = (a: Code, b: Code): Code => shuffle(a, b, [1, 3], 8);
/** The first two of four lanes, of both vectors in turn. */
export const interleaveFirst = (a: Code, b: Code): Code => shuffle(a, b, [0, 4, 1, 5], 4);
export const interleaveLast = (a: Code, b: Code): Code => shuffle(a, b, [2, 6, 3, 7], 4);

/** Of two vectors, lane by lane. */
export const vectorAdd = (a: Code, b: Code): Code => [a, b, simd(0xf0)];
export const sub = (a: Code, b: Code): Code => [a, b, simd(0xf1)];
export const mul = (a: Code, b: Code): Code => [a, b, simd(0xf2)];
/** A number in both lanes. */
export const splat = (number: Code): Code => [number, simd(0x14)];
export const zeroVector: Code = [simd(0x0c), ...new Array<number>(16).fill(0)];
export const numberAdd = (a: Code, b: Code): Code => [a, b, 0xa0];
export const numberSub = (a: Code, b: Code): Code => [a, b, 0xa1];
export const numberMul = (a: Code, b: Code): Code => [a, b, 0xa2];
export const numberDiv = (a: Code, b: Code): Code => [a, b, 0xa3];
export const numberAbs = (a: Code): Code => [a, 0x99];
export const numberNegate = (a: Code): Code => [a, 0x9a];
export const numberConstant = (value: number): Code => [
  0x44,
  ...new Uint8Array(Float64Array.of(value).buffer),
];
export const numberRoot = (a: Code): Code => [a, 0x9f];
/** Comparisons give the `i32` 1 or 0; with NaN all but the last one give 0. */
export const numberLess = (a: Code, b: Code): Code => [a, b, 0x63];
export const numberAtLeast = (a: Code, b: Code): Code => [a, b, 0x66];
export const numberDiffers = (a: Code, b: Code): Code => [a, b, 0x62];
/** `a` where the condition is not 0, else `b`; both are computed. */
export const select = (condition: Code, a: Code, b: Code): Code => [a, b, condition, 0x1b];
/** The sum of a vector's lanes. */
export const lanesSum = (vector: Local): Code =>
  numberAdd([get(vector), simd(0x21), 0], [get(vector), simd(0x21), 1]);

/** Repeats `body` until `position` has reached `end`; at least once. The body moves the position. */
export const repeatUntil = (position: Local, end: Local, body: Code): Code => [
  ...[0x03, 0x40], // loop
  body,
  get(position),
  get(end),
  ...[0x49, 0x0d, 0x00], // i32.lt_u, br_if the loop
  0x0b, // end
];

/** Repeats `body` as long as `position` is at least `begin`; at least once. The body moves the position. */
export const repeatDownTo = (position: Local, begin: Local, body: Code): Code => [
  ...[0x03, 0x40], // loop
  body,
  get(position),
  get(begin),
  ...[0x4e, 0x0d, 0x00], // i32.ge_s, br_if the loop
  0x0b, // end
];

/** A module of some functions that share one memory. */
export function instantiate(
  functions: Readonly<Record<string, FunctionDescription>>,
  memory: WasmMemory,
): Record<string, (...parameters: number[]) => number> {
  const names = Object.keys(functions);
  const descriptions = Object.values(functions);
  const indexOf = (name: string) => unsigned(names.indexOf(name));
  const bytes = flat([
    [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00], // "\0asm", version 1
    section(
      1,
      descriptions.map(({ parameters, result }) => [
        0x60,
        vector(parameters.map((type) => [type])),
        vector(result === undefined ? [] : [[result]]),
      ]),
    ),
    section(2, [[text("env"), text("memory"), 0x02, 0x00, 0x01]]),
    section(
      3,
      names.map((_, i) => unsigned(i)),
    ),
    section(
      7,
      names.map((name, i) => [text(name), 0x00, unsigned(i)]),
    ),
    section(
      10,
      descriptions.map(({ locals, code }) => {
        const body = flat([vector(locals.map((type) => [1, type])), code, 0x0b], indexOf);
        return [unsigned(body.length), body];
      }),
    ),
  ]);
  const instance = new WebAssembly.Instance(new WebAssembly.Module(new Uint8Array(bytes)), {
    env: { memory },
  });
  return instance.exports as Record<string, (...parameters: number[]) => number>;
}

export function createMemory(bytes: number): WasmMemory {
  return new WebAssembly.Memory({ initial: Math.ceil(bytes / PAGE_BYTES) });
}

function section(id: number, items: readonly Code[]): Code {
  const content = flat(vector(items));
  return [id, unsigned(content.length), content];
}

function vector(items: readonly Code[]): Code {
  return [unsigned(items.length), items];
}

/** The bytes in one piece. */
function flat(code: Code, indexOf?: (callee: string) => Code): number[] {
  const bytes: number[] = [];
  const append = (part: Code) => {
    for (const each of part) {
      if (typeof each === "number") bytes.push(each);
      else if ("callee" in each) append(indexOf!(each.callee));
      else append(each);
    }
  };
  append(code);
  return bytes;
}

function text(ascii: string): Code {
  return [unsigned(ascii.length), [...Buffer.from(ascii, "ascii")]];
}

/** LEB128 of an unsigned 32-bit number. */
function unsigned(value: number): Code {
  if (value < 0x80) return [value];
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  return [...bytes, rest];
}

/** LEB128 of a signed 32-bit number. */
function signed(value: number): Code {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>= 7) {
    const low = rest & 0x7f;
    const done = (rest >> 6 === 0 && (low & 0x40) === 0) || (rest >> 6 === -1 && (low & 0x40) !== 0);
    if (done) return [...bytes, low];
    bytes.push(low | 0x80);
  }
}
