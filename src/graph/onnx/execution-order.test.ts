import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type LoraStepOptions, loraStep } from "../../../test/helpers/lora-step.js";
import { tempFolder } from "../../../test/helpers/temp-folder.js";
import { type ExecutionMode, Session } from "../../runtime/session.js";
import { Graph } from "../graph.js";
import { add, exp, mul, neg } from "../ops/elementwise.js";
import { executionOrder, simplify } from "./execution-order.js";
import { lowerToOnnx } from "./lower.js";
import { orderedNodes } from "./node-order.js";

/** Names of the nodes in the order in which onnxruntime executed them, from its own profile. */
async function profiledOrder(
  step: ReturnType<typeof loraStep>,
  mode: ExecutionMode,
  folder: string,
): Promise<string[]> {
  const model = lowerToOnnx(step.graph, step.outputs, { weightConversionPerUse: mode === "lean" });
  const profilePrefix = join(folder, "profile");
  const session = await Session.create(model, { device: "cpu", mode, threads: 1, profilePrefix });
  await session.run(step.feeds(2));
  session.endProfiling();
  await session.release();
  const file = readdirSync(folder).find((name) => name.startsWith("profile"))!;
  const events = JSON.parse(readFileSync(join(folder, file), "utf8")) as { cat: string; name: string }[];
  const suffix = "_kernel_time";
  return events
    .filter(({ cat, name }) => cat === "Node" && name.endsWith(suffix))
    .map(({ name }) => name.slice(0, -suffix.length));
}

describe("executionOrder and simplify are what onnxruntime does", () => {
  const small = { channels: 8, size: 4, blocks: 2 } as const;
  const cases: (Omit<LoraStepOptions, "folder"> & { mode: ExecutionMode })[] = [
    { ...small, mode: "lean", dtype: "float32" },
    { ...small, mode: "lean", dtype: "float16" },
    { ...small, mode: "lean", dtype: "float16", checkpointing: true },
    { ...small, mode: "fast", dtype: "float32" },
    { ...small, mode: "fast", dtype: "float16" },
  ];
  test.each(cases)("$mode, $dtype, checkpointing $checkpointing", async ({ mode, ...options }) => {
    const folder = await tempFolder();
    const step = loraStep({ ...options, folder });
    const targets = Object.values(step.outputs);
    const lowered = orderedNodes(step.graph, targets, { weightConversionPerUse: mode === "lean" });
    const executed =
      mode === "lean" ? lowered : simplify(lowered, step.graph.constants, new Set(targets)).nodes;
    const predicted = executionOrder(executed).map(({ outputs: [first] }) => first!.name);
    expect(predicted).toEqual(await profiledOrder(step, mode, folder));
  });
});

describe("executionOrder", () => {
  test("finishes one branch before the next, the last made first", () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [1]);
    const first = neg(graph, exp(graph, x));
    const second = neg(graph, exp(graph, mul(graph, x, x)));
    add(graph, first, second);
    expect(executionOrder(graph.nodes).map(({ op }) => op)).toEqual([
      "Mul",
      "Exp",
      "Neg",
      "Exp",
      "Neg",
      "Add",
    ]);
  });

  test("holds every node once, after its inputs", () => {
    const graph = new Graph();
    let h = graph.input("x", "float32", [1]);
    const early = h;
    for (let i = 0; i < 20; i++) h = add(graph, mul(graph, h, h), exp(graph, i % 3 === 0 ? early : h));
    const order = executionOrder(graph.nodes);
    expect(new Set(order)).toEqual(new Set(graph.nodes));
    expect(order).toHaveLength(graph.nodes.length);
    const made = new Set(graph.inputs);
    for (const { inputs, outputs } of order) {
      expect(inputs.every((input) => made.has(input!))).toBe(true);
      for (const output of outputs) made.add(output);
    }
  });
});

describe("simplify", () => {
  test("merges equal nodes, and what becomes equal by that", () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [2]);
    const a = neg(graph, exp(graph, x));
    const b = neg(graph, exp(graph, x));
    const y = add(graph, a, b);
    const { nodes, computed } = simplify(graph.nodes, graph.constants, new Set([y]));
    expect(nodes.map(({ op }) => op).sort()).toEqual(["Add", "Exp", "Neg"]);
    const sum = nodes.find(({ op }) => op === "Add")!;
    expect(sum.inputs[0]).toBe(sum.inputs[1]);
    expect(computed).toEqual([]);
  });

  test("keeps equal nodes apart when both are outputs, and nodes with other attributes", () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [2, 2]);
    const transposed = (perm: number[]) =>
      graph.node1({
        op: "Transpose",
        inputs: [x],
        attributes: { perm },
        outputs: [{ shape: [2, 2], dtype: "float32" }],
      });
    const outputs = new Set([exp(graph, x), exp(graph, x), transposed([0, 1]), transposed([1, 0])]);
    expect(simplify(graph.nodes, graph.constants, outputs).nodes).toHaveLength(4);
  });

  test("computes what depends on constants alone, and tells which results are kept", () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [2]);
    const constant = graph.constant([1, 2], "float32");
    const inner = exp(graph, constant);
    const kept = neg(graph, inner);
    const y = mul(graph, x, kept);
    const alone = exp(graph, kept);
    const { nodes, computed } = simplify(graph.nodes, graph.constants, new Set([y, alone]));
    // An output is written by a node even when its value is known.
    expect(nodes.map(({ outputs }) => outputs[0])).toEqual([y, alone]);
    expect(computed).toEqual([kept]);
  });
});
