import { describe, expect, test } from "vitest";
import { type LoraStepOptions, loraStep } from "../../test/helpers/lora-step.js";
import { forgetPeak, residentBytes } from "../../test/helpers/resident-memory.js";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { type ExecutionMode, Session } from "../runtime/session.js";
import { Graph } from "./graph.js";
import { estimateActivationBytes } from "./memory.js";
import { lowerToOnnx } from "./onnx/lower.js";
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
    expect(estimateActivationBytes(graph, { y }, { symbols, foldsConstants: false })).toMatchObject({
      mappedWeightBytes: 260,
      convertedWeightBytes: 0,
      nodeCount: 6,
    });
  });

  test("counts converted weights among the activations where a session does not fold constants", () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [1, 100]);
    const stored = graph.external("stored", "float32", [100, 100], NOWHERE);
    const outputs = { y: gemm(graph, x, transpose(graph, stored, [1, 0])) };
    const peak = (foldsConstants: boolean) =>
      estimateActivationBytes(graph, outputs, { symbols: {}, foldsConstants }).peakBytes;
    expect(peak(true)).toBe(400);
    expect(peak(false)).toBe(400 + 40_000);
  });
});

/**
 * The growth of this process while it executes a step of 130 MB for the first time. The rest of the process grows and
 * shrinks by some megabytes meanwhile. Above the estimate by what the allocator loses (see memory-estimate.ts).
 */
describe.skipIf(process.platform !== "linux")("the estimate is what a session takes", () => {
  const cases: (Omit<LoraStepOptions, "folder"> & { mode: ExecutionMode })[] = [
    // Mostly attention, whose large buffers wait for each other.
    { mode: "fast", dtype: "float32", channels: 32, size: 40, blocks: 2 },
    { mode: "lean", dtype: "float32", channels: 32, size: 40, blocks: 2, checkpointing: true },
  ];
  test.each(cases)(
    "$mode, $dtype, $channels channels",
    async ({ mode, ...options }) => {
      const step = loraStep({ ...options, folder: await tempFolder() });
      const perMode = { foldsConstants: mode === "fast", weightConversionPerUse: mode === "lean" };
      const estimate = estimateActivationBytes(step.graph, step.outputs, {
        symbols: { rank: 4 },
        ...perMode,
      });
      const session = await Session.create(lowerToOnnx(step.graph, step.outputs, perMode), {
        device: "cpu",
        mode,
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
