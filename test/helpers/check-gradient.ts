/**
 * Checks graph operators on the real runtime against float64 references, in value and in gradient.
 *
 * The gradient's yardstick is the central difference of the *reference*, not of the operator: in float64 it is exact to about
 * 1e-10, so that the comparison is limited by the rounding of the float32 result alone.
 *
 * Shapes come from fast-check, numbers from a stream with a drawn seed. A failure prints fast-check's seed and path and
 * the smallest case it found; `DYLORA_TEST_SEED` repeats or varies a run, `DYLORA_TEST_RUNS` sets the cases per test.
 * `DYLORA_TEST_DEVICE=webgpu` runs the same checks there.
 */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { gradients } from "../../src/graph/gradient.js";
import { Graph, type GraphOptions } from "../../src/graph/graph.js";
import { type LoweredModel, lowerToOnnx } from "../../src/graph/onnx/lower.js";
import type { Dim, ElementType, Shape, Tensor } from "../../src/graph/tensor.js";
import { type RandomStream, randomStream } from "../../src/random/stream.js";
import { DEVICE_CHOICES, type DeviceName } from "../../src/runtime/device.js";
import { type ExecutionMode, float32, type HostTensor, int64, Session } from "../../src/runtime/session.js";
import { arrayOf, dot, elementCountOf, norm, type ReferenceArray } from "./reference-array.js";

/** Lengths of the symbolic axes in one run. */
export type Symbols = Readonly<Record<string, number>>;

export interface InputSpec {
  shape: Shape;
  /** Whether its gradient is checked. Default true. */
  trainable?: boolean;
  /** Default: standard normal numbers. */
  draw?: (random: RandomStream) => number;
  /** Makes the input int64: whole numbers below this. Never trainable. */
  indicesBelow?: number;
}

export interface OperatorCheck {
  inputs: Readonly<Record<string, InputSpec>>;
  build(graph: Graph, inputs: Readonly<Record<string, Tensor>>): Tensor | readonly Tensor[];
  reference(
    inputs: Readonly<Record<string, ReferenceArray>>,
    symbols: Symbols,
  ): ReferenceArray | readonly ReferenceArray[];
  /** One session is run at each of these; default: once, without symbolic axes. */
  symbols?: readonly Symbols[];
  /** Default: {@link TOLERANCE}. */
  tolerance?: number;
  /** Of the graph that is built. */
  graph?: GraphOptions;
}

const DEVICE = testDevice();
const SEED = Number(process.env.DYLORA_TEST_SEED ?? 20221014);
/** A session takes 3 ms to create on the CPU and 100 ms on a software GPU. */
const RUNS = Number(process.env.DYLORA_TEST_RUNS ?? (DEVICE === "cpu" ? 6 : 2));

/**
 * Largest `norm(found - expected) / norm(expected)` of a result, and of a directional derivative in units of the
 * gradient's norm.
 *
 * CPU: float32 rounds to 6e-8 and the sums here have up to a few hundred terms. The worst in 14,000 sessions was 8e-6, a sum
 * whose terms nearly cancel; wrong rules are off by 1e-2 and more. WebGPU: its shading language allows division, square
 * root and `exp` errors of several units in the last place (a software GPU was seen to reach 1e-6).
 */
const TOLERANCE = DEVICE === "cpu" ? 5e-5 : 2e-4;

/** Step of the central differences: truncation error ~ step² = 1e-10, rounding error ~ 1e-16 / step = 1e-11. */
const STEP = 1e-5;

function testDevice(): DeviceName {
  const name = process.env.DYLORA_TEST_DEVICE ?? "cpu";
  const device = DEVICE_CHOICES.find((choice) => choice === name);
  if (device === undefined || device === "auto") throw new Error(`DYLORA_TEST_DEVICE=${name} is no device`);
  return device;
}

/** The device that operators are checked on. */
export function checkedDevice(): DeviceName {
  return DEVICE;
}

/**
 * Defines the tests of one file of operators, and one that fails when the file exports a function that has none.
 *
 * @param operators - the file's exports (`import * as`)
 * @param checks - for each operator a function that defines its tests
 * @param helpers - exported functions that are no operators
 */
export function describeOperators(
  operators: Readonly<Record<string, unknown>>,
  checks: Readonly<Record<string, () => void>>,
  helpers: readonly string[] = [],
): void {
  test("every exported operator is checked", () => {
    const exported = Object.keys(operators).filter((name) => typeof operators[name] === "function");
    expect([...Object.keys(checks), ...helpers].sort()).toEqual(exported.sort());
  });
  for (const [name, define] of Object.entries(checks)) describe(name, define);
}

/** A test of one operator on random cases. */
export function testOperator<T>(
  label: string,
  cases: fc.Arbitrary<T>,
  toCheck: (drawn: T) => OperatorCheck,
): void {
  test(label, async () => {
    await fc.assert(
      fc.asyncProperty(cases, fc.nat(), (drawn, seed) => checkOperator(toCheck(drawn), seed)),
      { seed: SEED, numRuns: RUNS },
    );
  });
}

/** {@link testOperator} with a single case. */
export function testOperatorOnce(label: string, check: OperatorCheck): void {
  test(label, () => checkOperator(check, SEED));
}

/**
 * Checks values and gradients of one case: with every gradient at once in both execution modes, and with each input as the
 * only trainable one (a gradient rule takes other ways then).
 *
 * @param seed - of the numbers in the inputs
 */
export async function checkOperator(check: OperatorCheck, seed: number): Promise<void> {
  const trainable = Object.keys(check.inputs).filter((name) => isTrainable(check.inputs[name]!));
  const answers = (check.symbols ?? [{}]).map((symbols) => referenceAnswer(check, trainable, symbols, seed));
  await compare(check, trainable, answers, "fast");
  await compare(check, trainable, answers, "lean");
  if (trainable.length > 1) {
    for (const name of trainable) await compare(check, [name], answers, "fast");
  }
}

/** A direction in the space of one input, and the slope of the objective along it. */
interface Probe {
  what: string;
  direction: ReferenceArray;
  slope: number;
  /** Root mean square of `<gradient, direction>` in units of the gradient's norm. */
  scale: number;
}

/** What the reference says about one draw of numbers. The objective is `Σ <cotangent, output>`. */
interface Answer {
  symbols: Symbols;
  inputs: Readonly<Record<string, ReferenceArray>>;
  cotangents: readonly ReferenceArray[];
  values: readonly ReferenceArray[];
  probes: Readonly<Record<string, readonly Probe[]>>;
}

function referenceAnswer(
  check: OperatorCheck,
  trainable: readonly string[],
  symbols: Symbols,
  seed: number,
): Answer {
  const random = randomStream(seed, JSON.stringify(symbols));
  const inputs = drawInputs(check, symbols, random);
  const values = listOf(check.reference(inputs, symbols));
  const cotangents = values.map(({ shape }) => roundedArray(shape, () => random.normal()));
  const slope = (name: string, direction: ReferenceArray) => {
    const objective = (step: number) => {
      const data = inputs[name]!.data.map((x, i) => x + step * direction.data[i]!);
      const moved = check.reference({ ...inputs, [name]: { shape: direction.shape, data } }, symbols);
      return listOf(moved).reduce((total, value, i) => total + dot(value, cotangents[i]!), 0);
    };
    return (objective(STEP) - objective(-STEP)) / (2 * STEP);
  };
  const probes: Record<string, Probe[]> = {};
  for (const name of trainable) {
    const { shape, data } = inputs[name]!;
    const along = (what: string, direction: ReferenceArray, scale: number): Probe => {
      return { what: `slope of ${name} along ${what}`, direction, slope: slope(name, direction), scale };
    };
    const random3 = [0, 1, 2].map(() =>
      along(
        "a random direction",
        arrayOf(shape, () => random.normal()),
        1,
      ),
    );
    const elements = Array.from({ length: Math.min(4, data.length) }, () => {
      const element = random.int(data.length);
      const direction = arrayOf(shape, () => 0);
      direction.data[element] = 1;
      return along(`element ${element}`, direction, 1 / Math.sqrt(data.length));
    });
    probes[name] = [...random3, ...elements];
  }
  return { symbols, inputs, cotangents, values, probes };
}

/** Runs the operator with the gradients of `trainable` and compares with the reference. */
async function compare(
  check: OperatorCheck,
  trainable: readonly string[],
  answers: readonly Answer[],
  mode: ExecutionMode,
): Promise<void> {
  const { tolerance = TOLERANCE } = check;
  const model = differentiate(check, trainable);
  const session = await Session.create(model, { device: DEVICE, mode, threads: 1 });
  try {
    for (const { symbols, inputs, cotangents, values, probes } of answers) {
      // A feed that no wanted result depends on is not an input of the lowered model.
      const feeds: Record<string, HostTensor> = {};
      for (const { name, dtype } of model.inputs) {
        feeds[name] = toHost(inputs[name] ?? cotangents[Number(name.slice(COTANGENT.length))]!, dtype);
      }
      const results = await session.run(feeds);

      const context = `${mode}, gradient of ${trainable.join(", ") || "nothing"}, ${JSON.stringify(symbols)}`;
      for (const [position, value] of values.entries()) {
        const found = fromHost(results[`${VALUE}${position}`]!);
        expectClose(found, value, `value ${position} (${context})`, tolerance);
      }
      for (const name of trainable) {
        const gradient = fromHost(results[`${GRADIENT}${name}`]!);
        expect(gradient.shape, `shape of the gradient of ${name} (${context})`).toEqual(inputs[name]!.shape);
        for (const { what, direction, slope, scale } of probes[name]!) {
          const margin = tolerance * (scale * norm(gradient) + Math.abs(slope));
          expectWithin(dot(gradient, direction), slope, margin, `${what} (${context})`);
        }
      }
    }
  } finally {
    await session.release();
  }
}

const VALUE = "value_";
const GRADIENT = "gradient_";
const COTANGENT = "cotangent_";

/** The operator with the gradients of the objective with respect to the trainable inputs, as one model. */
function differentiate(check: OperatorCheck, trainable: readonly string[]): LoweredModel {
  const graph = new Graph(check.graph);
  const inputs: Record<string, Tensor> = {};
  for (const [name, { shape, indicesBelow }] of Object.entries(check.inputs)) {
    const dtype = indicesBelow === undefined ? "float32" : "int64";
    inputs[name] = graph.input(name, dtype, shape, { trainable: trainable.includes(name) });
  }
  const built = listOf(check.build(graph, inputs));
  const results: Record<string, Tensor> = {};
  for (const [position, tensor] of built.entries()) results[`${VALUE}${position}`] = tensor;
  if (trainable.length > 0) {
    const seeds = built.map((tensor, position) => ({
      tensor,
      gradient: graph.input(`${COTANGENT}${position}`, "float32", tensor.shape),
    }));
    const targets = trainable.map((name) => inputs[name]!);
    for (const [position, gradient] of gradients(graph, graph.operations, seeds, targets).entries()) {
      if (gradient === null) throw new Error(`no gradient for ${trainable[position]}`);
      results[`${GRADIENT}${trainable[position]}`] = gradient;
    }
  }
  return lowerToOnnx(graph, results);
}

function expectWithin(found: number, expected: number, margin: number, what: string): void {
  // Written so that NaN fails.
  if (Math.abs(found - expected) <= margin) return;
  expect.fail(`${what}: found ${found}, expected ${expected} ± ${margin}`);
}

/** Fails unless the shapes agree, and the values do within `tolerance` of the norm. */
export function expectClose(
  found: ReferenceArray,
  expected: ReferenceArray,
  what: string,
  tolerance = TOLERANCE,
): void {
  expect(found.shape, `shape of ${what}`).toEqual(expected.shape);
  const data = found.data.map((value, i) => value - expected.data[i]!);
  const error = norm({ shape: found.shape, data });
  if (error <= tolerance * norm(expected)) return;
  expect.fail(`${what}: relative error ${error / norm(expected)}, tolerance ${tolerance}`);
}

function drawInputs(check: OperatorCheck, symbols: Symbols, random: RandomStream) {
  const inputs: Record<string, ReferenceArray> = {};
  for (const [name, { shape, draw, indicesBelow }] of Object.entries(check.inputs)) {
    const next = indicesBelow === undefined ? (draw ?? ((r) => r.normal())) : () => random.int(indicesBelow);
    inputs[name] = roundedArray(resolve(shape, symbols), () => next(random));
  }
  return inputs;
}

/** Numbers that float32 holds exactly, so that reference and runtime get the same ones. */
function roundedArray(shape: readonly number[], draw: () => number): ReferenceArray {
  return arrayOf(shape, () => Math.fround(draw()));
}

function resolve(shape: Shape, symbols: Symbols): number[] {
  return shape.map((dim: Dim) => {
    const length = typeof dim === "number" ? dim : symbols[dim];
    if (length === undefined) throw new Error(`no length given for axis ${dim}`);
    return length;
  });
}

function isTrainable({ trainable = true, indicesBelow }: InputSpec): boolean {
  return trainable && indicesBelow === undefined;
}

function listOf<T extends object>(value: T | readonly T[]): readonly T[] {
  return Array.isArray(value) ? value : [value as T];
}

function toHost({ shape, data }: ReferenceArray, dtype: ElementType): HostTensor {
  return dtype === "int64" ? int64([...data], shape) : float32(Float32Array.from(data), shape);
}

function fromHost({ shape, data }: HostTensor): ReferenceArray {
  if (!(data instanceof Float32Array)) throw new Error("a result is not float32");
  if (data.length !== elementCountOf(shape)) throw new Error(`${data.length} numbers of shape [${shape}]`);
  return { shape, data: Float64Array.from(data) };
}
