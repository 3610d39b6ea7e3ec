/**
 * Elementwise float32 updates as WebAssembly SIMD.
 *
 * An optimizer visits every parameter in every step: 54 million at rank 128 of SD 1.5. V8 compiles such a loop to scalar
 * code that converts between float32 and float64 around each operation: AdamW takes 17 to 21 ns per element that way (Node
 * 20, one core of a 2.5 GHz Xeon). As WebAssembly, four lanes at a time, it takes 2 where factors and moments lie in
 * {@link KernelMemory}, and 4 to 11 where they are copied in and out (AMD Zen 3, 2.45 GHz). An update is written as expressions:
 *
 *     const axpy = compileKernel(["x", "y"], ["a"], ({ array, scalar, store }) => {
 *       store("y", add(mul(scalar("a"), array("x")), array("y")));
 *     });
 *     axpy({ x, y }, { a: 2 }); // y = 2 x + y
 *
 * An expression is the WebAssembly code that leaves its value, a vector of four float32, on the stack; the operations
 * round as IEEE 754 says, so results are the same on every machine.
 */
import { internalError } from "../../errors.js";
import { CHUNK_ELEMENTS, checkArrayCount, KernelMemory, memoryOutside } from "./kernel-memory.js";
import {
  addressOf,
  compileModule,
  float32Bytes,
  instantiate,
  localGet,
  localSet,
  loopOver,
  memoryArgument,
  OP,
  TYPE,
} from "./wasm-binary.js";

const LANES = 4;
const { BYTES_PER_ELEMENT } = Float32Array;

/** WebAssembly code that leaves one vector on the stack. */
export type Expression = readonly number[];

/** Arrays of equal length, and the numbers of this call; runs the update over all elements. */
export type Kernel<ArrayName extends string, ScalarName extends string> = (
  arrays: Readonly<Record<ArrayName, Float32Array>>,
  scalars: Readonly<Record<ScalarName, number>>,
) => void;

export interface KernelScope<ArrayName extends string, ScalarName extends string> {
  /** The elements of an array, as they were before this update or as an earlier `store` left them. */
  array(name: ArrayName): Expression;
  /** A number of the call, rounded to float32, in all lanes. */
  scalar(name: ScalarName): Expression;
  /** Computes a value once; the result stands for it afterwards. */
  keep(value: Expression): Expression;
  store(name: ArrayName, value: Expression): void;
}

export const add = (a: Expression, b: Expression): Expression => [...a, ...b, ...OP.f32x4Add];
export const sub = (a: Expression, b: Expression): Expression => [...a, ...b, ...OP.f32x4Sub];
export const mul = (a: Expression, b: Expression): Expression => [...a, ...b, ...OP.f32x4Mul];
export const div = (a: Expression, b: Expression): Expression => [...a, ...b, ...OP.f32x4Div];
export const sqrt = (a: Expression): Expression => [...a, ...OP.f32x4Sqrt];
export const constant = (value: number): Expression => [
  ...OP.f32Const,
  ...float32Bytes(value),
  ...OP.f32x4Splat,
];
/** 1, 0 or -1; 0 for NaN. A comparison answers with all bits set or none, which `and` turns into 1 or 0. */
export const sign = (a: Expression): Expression => {
  const zero = constant(0);
  const one = constant(1);
  const positive = [...a, ...zero, ...OP.f32x4Gt, ...one, ...OP.v128And];
  const negative = [...a, ...zero, ...OP.f32x4Lt, ...one, ...OP.v128And];
  return sub(positive, negative);
};

/**
 * Compiles an elementwise update.
 *
 * @param arrayNames - the arrays a call must give
 * @param scalarNames - the numbers a call must give
 * @param define - states the update through the scope it is handed
 */
export function compileKernel<ArrayName extends string, ScalarName extends string>(
  arrayNames: readonly ArrayName[],
  scalarNames: readonly ScalarName[],
  define: (scope: KernelScope<ArrayName, ScalarName>) => void,
): Kernel<ArrayName, ScalarName> {
  checkArrayCount(arrayNames.length);
  // Parameters: the length in bytes, the address of each array, the scalars. Then the loop's position, then the vectors.
  const firstAddress = 1;
  const firstScalar = firstAddress + arrayNames.length;
  const positionLocal = firstScalar + scalarNames.length;
  const firstVector = positionLocal + 1;
  let vectorCount = scalarNames.length;
  const stored = new Set<ArrayName>();
  const body: number[] = [];
  const address = (name: ArrayName) => addressOf(firstAddress + arrayNames.indexOf(name), positionLocal);
  define({
    array: (name) => [...address(name), ...OP.v128Load, ...memoryArgument(0)],
    scalar: (name) => localGet(firstVector + scalarNames.indexOf(name)),
    keep: (value) => {
      const local = firstVector + vectorCount++;
      body.push(...value, ...localSet(local));
      return localGet(local);
    },
    store: (name, value) => {
      stored.add(name);
      body.push(...address(name), ...value, ...OP.v128Store, ...memoryArgument(0));
    },
  });

  const splats = scalarNames.flatMap((_, k) => [
    ...localGet(firstScalar + k),
    ...OP.f32x4Splat,
    ...localSet(firstVector + k),
  ]);
  const module = compileModule({
    parameters: [TYPE.i32, ...arrayNames.map(() => TYPE.i32), ...scalarNames.map(() => TYPE.f32)],
    locals: [
      [1, TYPE.i32],
      [vectorCount, TYPE.v128],
    ],
    code: [...splats, ...loopOver(positionLocal, body)],
  });
  const isStored = arrayNames.map((name) => stored.has(name));
  const calls = new WeakMap<KernelMemory, ReturnType<typeof instantiate>>();

  return (arrays, scalars) => {
    const data = arrayNames.map((name) => arrays[name]);
    const length = data[0]!.length;
    for (const { length: other } of data) {
      if (other !== length) throw internalError("kernel: arrays of different lengths");
    }
    const homes = data.map((array) => KernelMemory.of(array));
    const memory = homes.find((home) => home !== undefined) ?? memoryOutside();
    let call = calls.get(memory);
    if (call === undefined) {
      call = instantiate(module, memory.wasm);
      calls.set(memory, call);
    }
    const values = scalarNames.map((name) => scalars[name]);
    const run = (begin: number, end: number, isOutside: (index: number) => boolean) => {
      const addresses = data.map((array, k) => {
        if (!isOutside(k)) return array.byteOffset + begin * BYTES_PER_ELEMENT;
        const window = memory.windows[k]!;
        window.set(part(array, begin, end));
        return window.byteOffset;
      });
      call!(roundUp(end - begin, LANES) * BYTES_PER_ELEMENT, ...addresses, ...values);
      for (const [k, array] of data.entries()) {
        if (isOutside(k) && isStored[k]) array.set(part(memory.windows[k]!, 0, end - begin), begin);
      }
    };
    const liesOutside = (index: number) => homes[index] !== memory;
    const whole = length - (length % LANES);
    const most = homes.every((home) => home === memory) ? whole : CHUNK_ELEMENTS;
    for (let begin = 0; begin < whole; begin += most) run(begin, Math.min(begin + most, whole), liesOutside);
    // A last vector that is not full computes on what lies behind the array: on a copy, of which that is never copied back.
    if (whole < length) run(whole, length, () => true);
  };
}

/** A view costs as much as copying some hundred elements: none is made for an array that is whole. */
function part(array: Float32Array, begin: number, end: number): Float32Array {
  return begin === 0 && end === array.length ? array : array.subarray(begin, end);
}

/** Sum of the squares of all elements, in float64, always added up in the same order. */
export const sumOfSquares: (values: Float32Array) => number = compileSumOfSquares();

function compileSumOfSquares(): (values: Float32Array) => number {
  // Two sums: each addition has to wait for the one before it.
  const [begin, position, first, second, pairLocal] = [1, 2, 3, 4, 5] as const;
  /** The two elements at a byte offset from the position, as float64. */
  const pair = (offset: number) => [
    ...addressOf(begin, position),
    ...OP.v128Load64Zero,
    ...memoryArgument(offset),
    ...OP.f64x2PromoteLow,
  ];
  const addSquares = (sum: number, offset: number) => [
    ...pair(offset),
    ...localSet(pairLocal),
    ...localGet(sum),
    ...localGet(pairLocal),
    ...localGet(pairLocal),
    ...OP.f64x2Mul,
    ...OP.f64x2Add,
    ...localSet(sum),
  ];
  const module = compileModule({
    parameters: [TYPE.i32, TYPE.i32],
    result: TYPE.f64,
    locals: [
      [1, TYPE.i32],
      [3, TYPE.v128],
    ],
    code: [
      ...loopOver(position, [...addSquares(first, 0), ...addSquares(second, 8)]),
      ...localGet(first),
      ...localGet(second),
      ...OP.f64x2Add,
      ...localSet(first),
      ...localGet(first),
      ...OP.f64x2ExtractLane,
      0,
      ...localGet(first),
      ...OP.f64x2ExtractLane,
      1,
      ...OP.f64Add,
    ],
  });
  const calls = new WeakMap<KernelMemory, ReturnType<typeof instantiate>>();
  return (values) => {
    const home = KernelMemory.of(values);
    const memory = home ?? memoryOutside();
    let call = calls.get(memory);
    if (call === undefined) {
      call = instantiate(module, memory.wasm);
      calls.set(memory, call);
    }
    const [window] = memory.windows as [Float32Array];
    let total = 0;
    // In pieces of the same size wherever they lie: the order of the additions is part of the result.
    for (let start = 0; start < values.length; start += CHUNK_ELEMENTS) {
      const end = Math.min(start + CHUNK_ELEMENTS, values.length);
      const padded = roundUp(end - start, LANES);
      if (home !== undefined && padded === end - start) {
        total += call(padded * BYTES_PER_ELEMENT, values.byteOffset + start * BYTES_PER_ELEMENT);
        continue;
      }
      window.set(values.subarray(start, end));
      window.fill(0, end - start, padded);
      total += call(padded * BYTES_PER_ELEMENT, window.byteOffset);
    }
    return total;
  };
}

function roundUp(count: number, multiple: number): number {
  return Math.ceil(count / multiple) * multiple;
}
