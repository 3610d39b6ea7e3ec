import { describe, expect, test } from "vitest";
import { Graph } from "../../graph/graph.js";
import { lowerToOnnx } from "../../graph/onnx/lower.js";
import type { Tensor } from "../../graph/tensor.js";
import { randomStream } from "../../random/stream.js";
import { float32, Session } from "../../runtime/session.js";
import { createFactorState, createOptimizer, type Optimizer } from "../optimizer/index.js";
import { optimizerRule } from "./optimizer-rules.js";

const [RANK, WIDTH] = [4, 5];
const RATE = 0.01;
const normals = (purpose: string) => randomStream(9, purpose).fillNormal(new Float32Array(RANK * WIDTH));

/** One step by the rule, executed on the CPU. */
async function stepByRule(
  optimizer: Optimizer,
  now: { values: Float32Array; gradient: Float32Array; slots: readonly Float32Array[] },
  steps: readonly (number | null)[],
) {
  const rule = optimizerRule(optimizer)!;
  const graph = new Graph();
  const matrix = (name: string): Tensor => graph.input(name, "float32", [RANK, WIDTH]);
  const columns = new Map(rule.columns.map((name) => [name, graph.input(name, "float32", [RANK, 1])]));
  const { values, slots } = rule.update(
    graph,
    {
      values: matrix("values"),
      gradient: matrix("gradient"),
      slots: now.slots.map((_, index) => matrix(`slot${index}`)),
    },
    (name) => columns.get(name)!,
  );
  const outputs = { values, ...Object.fromEntries(slots.map((slot, index) => [`slot${index}`, slot])) };
  const renamed = Object.fromEntries(
    Object.entries(outputs).map(([name, tensor]) => [`${name}.next`, tensor]),
  );
  const session = await Session.create(lowerToOnnx(graph, renamed), { device: "cpu", mode: "fast" });
  const numbers = steps.map((step) => rule.numbers(step, RATE));
  const results = await session.run({
    values: float32(now.values, [RANK, WIDTH]),
    gradient: float32(now.gradient, [RANK, WIDTH]),
    ...Object.fromEntries(now.slots.map((slot, index) => [`slot${index}`, float32(slot, [RANK, WIDTH])])),
    ...Object.fromEntries(
      rule.columns.map((name, index) => [
        name,
        float32(
          Float32Array.from(numbers, (row) => row[index]!),
          [RANK, 1],
        ),
      ]),
    ),
  });
  await session.release();
  return {
    values: results["values.next"]!.data as Float32Array,
    slots: now.slots.map((_, index) => results[`slot${index}.next`]!.data as Float32Array),
  };
}

describe("optimizers as graphs", () => {
  test.each([
    ["AdamW", ["weight_decay=0.1"]],
    ["Lion", ["weight_decay=0.1"]],
    ["SGDNesterov", ["weight_decay=0.1"]],
  ])(
    "%s computes what its kernel computes, and leaves components that do not learn as they are",
    async (name, args) => {
      const optimizer = createOptimizer(name, args);
      const state = createFactorState(optimizer, RANK, WIDTH);
      for (const [slot, values] of Object.entries(state.slots)) values.set(normals(slot).map(Math.abs));
      state.steps.fill(6);
      const [values, gradient] = [normals("values"), normals("gradient")];
      // Components 1 and 2 learn; the others have no gradient.
      gradient.fill(0, 0, WIDTH).fill(0, 3 * WIDTH);
      const slots = optimizer.slotNames.map((slot) => state.slots[slot]!.slice());
      const found = await stepByRule(optimizer, { values: values.slice(), gradient, slots }, [
        null,
        7,
        7,
        null,
      ]);

      const trained = gradient.subarray(WIDTH, 3 * WIDTH);
      optimizer.step({ values, state, rows: { begin: 1, end: 3 }, gradient: trained, learningRate: RATE });
      expectEqual(found.values, values);
      for (const [index, slot] of optimizer.slotNames.entries())
        expectEqual(found.slots[index]!, state.slots[slot]!);
    },
  );

  test("an unknown optimizer has no graph", () => {
    const optimizer: Optimizer = { name: "descent", settings: {}, slotNames: [], step: () => {} };
    expect(optimizerRule(optimizer)).toBeNull();
  });
});

/** To a unit in the last place of float32, and exactly where nothing may change. */
function expectEqual(found: Float32Array, expected: Float32Array): void {
  for (const [index, value] of expected.entries()) {
    const learns = index >= WIDTH && index < 3 * WIDTH;
    if (!learns) expect(found[index]).toBe(value);
    expect(Math.abs(found[index]! - value)).toBeLessThanOrEqual(3e-7 * Math.max(1e-3, Math.abs(value)));
  }
}
