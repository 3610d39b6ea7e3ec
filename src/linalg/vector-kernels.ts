/** Vectors of float64, whole steps of them. */
import { ELEMENT_BYTES, LANES } from "./layout.js";
import {
  advance,
  type Code,
  type FunctionDescription,
  get,
  type Local,
  lanesSum,
  load,
  mul,
  repeatUntil,
  set,
  splat,
  store,
  TYPE,
  Variables,
  vectorAdd,
} from "./wasm-code.js";

/** The kernels take four vectors of two float64 at a time. */
export const STEP_BYTES = LANES * ELEMENT_BYTES;
export const STEP_OFFSETS = [0, 16, 32, 48] as const;

/** `sum += value` */
export const accumulate = (sum: Local, value: Code): Code => set(sum, vectorAdd(get(sum), value));

/** `(x, xEnd, y)`: the dot product of two vectors. */
export function dot(): FunctionDescription {
  const variables = new Variables();
  const [x, xEnd, y] = variables.parameters(3, TYPE.i32);
  const sums = variables.locals(STEP_OFFSETS.length, TYPE.v128);
  const [first, ...others] = sums;
  return variables.describe(
    [
      ...repeatUntil(x, xEnd, [
        ...sums.flatMap((sum, j) =>
          accumulate(sum, mul(load(get(x), STEP_OFFSETS[j]), load(get(y), STEP_OFFSETS[j]))),
        ),
        ...advance(x, STEP_BYTES),
        ...advance(y, STEP_BYTES),
      ]),
      ...others.flatMap((sum) => accumulate(first, get(sum))),
      ...lanesSum(first),
    ],
    TYPE.f64,
  );
}

/** `(target, targetEnd, x, y, z, a, b, c)`: `target = a · x + b · y + c · z`; the target may be one of the vectors. */
export function addVectors(): FunctionDescription {
  const variables = new Variables();
  const [target, targetEnd] = variables.parameters(2, TYPE.i32);
  const vectors = variables.parameters(3, TYPE.i32);
  const numbers = variables.parameters(3, TYPE.f64);
  const factors = variables.locals(vectors.length, TYPE.v128);
  return variables.describe([
    ...factors.flatMap((factor, i) => set(factor, splat(get(numbers[i]!)))),
    ...repeatUntil(target, targetEnd, [
      ...STEP_OFFSETS.flatMap((offset) => {
        const [ax, by, cz] = vectors.map((vector, i) => mul(get(factors[i]!), load(get(vector), offset))) as [
          Code,
          Code,
          Code,
        ];
        return store(get(target), vectorAdd(vectorAdd(ax, by), cz), offset);
      }),
      ...[target, ...vectors].flatMap((pointer) => advance(pointer, STEP_BYTES)),
    ]),
  ]);
}
