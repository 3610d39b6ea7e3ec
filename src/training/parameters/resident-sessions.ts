/** The sessions of an optimizer on a device: sums of gradients, their norm, the update. */

import { Graph } from "../../graph/graph.js";
import { lowerToOnnx } from "../../graph/onnx/lower.js";
import { add, mul } from "../../graph/ops/elementwise.js";
import { sum, sumOfSquares } from "../../graph/ops/reduce.js";
import { concat, reshape } from "../../graph/ops/shape.js";
import type { Tensor } from "../../graph/tensor.js";
import { DeviceSession, type ResidentDevice } from "../../runtime/device-session.js";
import type { OptimizerRule } from "./optimizer-rules.js";

/** A factor that gets gradients: a matrix `[rank, width]`. */
export interface FactorShape {
  readonly name: string;
  readonly rank: number;
  readonly width: number;
  /** Factors of one group have the same numbers of a step in every component. */
  readonly group: string;
}

/** Names of a session's inputs and outputs. An output has the name of what it replaces, and `next`. */
export const names = {
  values: (factor: string) => `${factor}.values`,
  gradient: (factor: string) => `${factor}.gradient`,
  sum: (factor: string) => `${factor}.sum`,
  slot: (factor: string, slot: string) => `${factor}.${slot}`,
  column: (group: string, column: string) => `${group}.${column}`,
  next: (name: string) => `${name}.next`,
  gradientScale: "gradient_scale",
  squares: "squares",
} as const;

/** Operands of one operator; a shader has eight buffers everywhere, one of them the result's. */
const MOST_OPERANDS = 7;

/** `sum` and `gradient` of every factor, added up. */
export function createSumSession(
  device: ResidentDevice,
  factors: readonly FactorShape[],
): Promise<DeviceSession> {
  const graph = new Graph();
  const outputs = factors.map(({ name, rank, width }) => {
    const [before, gradient] = [names.sum(name), names.gradient(name)].map((input) =>
      graph.input(input, "float32", [rank, width]),
    ) as [Tensor, Tensor];
    return [names.next(names.sum(name)), add(graph, before, gradient)] as const;
  });
  return DeviceSession.create(lowerToOnnx(graph, Object.fromEntries(outputs)), {
    ...{ device, mode: "fast", onHost: [] },
  });
}

/** The sum of the squares of all gradients, `[1]`. */
export function createNormSession(
  device: ResidentDevice,
  factors: readonly FactorShape[],
): Promise<DeviceSession> {
  const graph = new Graph();
  let parts = factors.map(({ name, rank, width }) => {
    const gradient = graph.input(names.gradient(name), "float32", [rank, width]);
    // Row by row first: a kernel has one group of threads for every result.
    return reshape(graph, sum(graph, sumOfSquares(graph, gradient, [1]), [0]), [1]);
  });
  while (parts.length > 1) {
    const sums: Tensor[] = [];
    for (let begin = 0; begin < parts.length; begin += MOST_OPERANDS) {
      const some = parts.slice(begin, begin + MOST_OPERANDS);
      sums.push(some.length === 1 ? some[0]! : sum(graph, concat(graph, some, 0), [0]));
    }
    parts = sums;
  }
  return DeviceSession.create(lowerToOnnx(graph, { [names.squares]: parts[0]! }), {
    ...{ device, mode: "fast", onHost: [names.squares] },
  });
}

/** The optimizer's step of every factor. */
export function createUpdateSession(
  device: ResidentDevice,
  factors: readonly FactorShape[],
  rule: OptimizerRule,
  slotNames: readonly string[],
): Promise<DeviceSession> {
  const graph = new Graph();
  const scale = graph.input(names.gradientScale, "float32", []);
  const columns = new Map<string, Tensor>();
  const outputs: Record<string, Tensor> = {};
  for (const { name, rank, width, group } of factors) {
    const matrix = (of: string) => graph.input(of, "float32", [rank, width]);
    const column = (of: string) => {
      const input = names.column(group, of);
      const known = columns.get(input) ?? graph.input(input, "float32", [rank, 1]);
      columns.set(input, known);
      return known;
    };
    const values = matrix(names.values(name));
    const slots = slotNames.map((slot) => matrix(names.slot(name, slot)));
    const gradient = mul(graph, matrix(names.gradient(name)), scale);
    const next = rule.update(graph, { values, gradient, slots }, column);
    outputs[names.next(names.values(name))] = next.values;
    for (const [index, slot] of slotNames.entries())
      outputs[names.next(names.slot(name, slot))] = next.slots[index]!;
  }
  return DeviceSession.create(lowerToOnnx(graph, outputs), { device, mode: "fast", onHost: [] });
}
