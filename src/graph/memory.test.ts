import { describe, expect, test } from "vitest";
import { type LoraStepOptions, loraStep } from "../../test/helpers/lora-step.js";
import { forgetPeak, residentBytes } from "../../test/helpers/resident-memory.js";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { openGraphSession } from "../runtime/graph-session.js";
import { PreparedWeights } from "../runtime/weights/prepared-weights.js";
import { Graph } from "./graph.js";
import { estimateActivationBytes } from "./memory.js";
import type { WeightUse } from "./onnx/weight-use.js";
import { cast, exp, mul } from "./ops/elementwise.js";
import { gemm } from "./ops/matmul.js";
import { transpose } from "./ops/shape.js";

const NOWHERE = { filePath: "/nowhere/weights", offsetBytes: 0, sizeBytes: 0 };

describe("estimateActivationBytes", () => {
  test("counts inputs and outputs at the given length of a symbolic axis", () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", ["rank", 10]);
    graph.input("unused", "float32", [1000]);
    const outputs = { y: exp(graph, x), same: x };
    for (const rank of [1, 7]) {
      const memory = estimateActivationBytes(graph, outputs, { symbols: { rank } });
      expect(memory).toMatchObject({ inputBytes: 40 * rank, outputBytes: 80 * rank, nodeCount: 2 });
      expect(memory.peakBytes).toBe(80 * rank);
    }
    expect(() => estimateActivationBytes(graph, outputs, { symbols: {} })).toThrow(
      "no length for axis rank of x",
    );
  });

  test("tells stored from converted weights", () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [2, 10]);
    // Two bytes a number in the file; four where they are converted.
    const matrix = cast(graph, graph.external("matrix", "float16", [10, 10], NOWHERE), "float32");
    const gain = cast(graph, graph.external("gain", "float16", [10], NOWHERE), "float32");
    const plain = graph.external("plain", "float32", [10], NOWHERE);
    graph.external("unused", "float32", [5000], NOWHERE);
    const forward = gemm(graph, x, matrix, { transB: true, c: plain });
    const y = mul(graph, mul(graph, gemm(graph, forward, matrix), gain), plain);
    const symbols = {};
    expect(estimateActivationBytes(graph, { y }, { symbols })).toMatchObject({
      mappedWeightBytes: 40,
      convertedWeightBytes: 400 + 40,
      nodeCount: 4,
    });
    expect(estimateActivationBytes(graph, { y }, { symbols, weightUse: "perUse" })).toMatchObject({
      mappedWeightBytes: 260,
      convertedWeightBytes: 0,
      // The matrix is converted for each of its two uses.
      nodeCount: 7,
    });
  });

  test("names the weights that are prepared outside the session, and leaves it the small ones", () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [2, 200]);
    const stored = graph.external("matrix", "float16", [200, 200], NOWHERE);
    const gain = graph.external("gain", "float16", [200], { ...NOWHERE, offsetBytes: 80_000 });
    const forward = gemm(graph, x, cast(graph, stored, "float32"), { transB: true });
    const backward = gemm(graph, forward, transpose(graph, cast(graph, stored, "float32"), [1, 0]));
    const y = mul(graph, backward, cast(graph, gain, "float32"));
    const memory = estimateActivationBytes(graph, { y }, { symbols: {}, weightUse: "prepared" });
    expect([...memory.preparedWeights.values()]).toEqual([160_000, 160_000]);
    expect(memory).toMatchObject({ mappedWeightBytes: 0, convertedWeightBytes: 800, inputBytes: 1600 });
  });

  test("counts converted weights among the activations where a session does not fold constants", () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [1, 100]);
    const stored = graph.external("stored", "float32", [100, 100], NOWHERE);
    const outputs = { y: gemm(graph, x, transpose(graph, stored, [1, 0])) };
    const peak = (weightUse: WeightUse) =>
      estimateActivationBytes(graph, outputs, { symbols: {}, weightUse }).peakBytes;
    expect(peak("folded")).toBe(400);
    expect(peak("perUse")).toBe(400 + 40_000);
  });
});

/**
 * The growth of this process while it executes a step of 130 MB for the first time. The rest of the process grows and
 * shrinks by some megabytes meanwhile. Above the estimate by what the allocator loses (see memory-estimate.ts).
 */
describe.skipIf(process.platform !== "linux")("the estimate is what a session takes", () => {
  const cases: (Omit<LoraStepOptions, "folder"> & { weightUse: WeightUse })[] = [
    // Mostly attention, whose large buffers wait for each other.
    { weightUse: "prepared", dtype: "float16", channels: 32, size: 40, blocks: 2 },
    { weightUse: "perUse", dtype: "float32", channels: 32, size: 40, blocks: 2, checkpointing: true },
  ];
  test.each(cases)(
    "$weightUse, $dtype, $channels channels",
    async ({ weightUse, ...options }) => {
      const step = loraStep({ ...options, folder: await tempFolder() });
      const estimate = estimateActivationBytes(step.graph, step.outputs, {
        symbols: { rank: 4 },
        weightUse,
      });
      const session = await openGraphSession(step.graph, step.outputs, {
        device: "cpu",
        mode: weightUse === "perUse" ? "lean" : "fast",
        weightUse,
        prepared: new PreparedWeights(),
        threads: 1,
      });
      const feeds = step.feeds(4);
      forgetPeak();
      const before = residentBytes();
      await session.run(feeds);
      const grown = residentBytes().peak - before.now - estimate.mappedWeightBytes;
      await session.release();
      expect(grown / estimate.peakBytes).toBeGreaterThan(0.9);
      expect(grown / estimate.peakBytes).toBeLessThan(1.3);
    },
    120_000,
  );
});
