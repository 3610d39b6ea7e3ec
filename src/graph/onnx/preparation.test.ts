import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { loraStep } from "../../../test/helpers/lora-step.js";
import { tempFolder } from "../../../test/helpers/temp-folder.js";
import { openGraphSession } from "../../runtime/graph-session.js";
import { float32 } from "../../runtime/session.js";
import { PreparedWeights } from "../../runtime/weights/prepared-weights.js";
import { Graph } from "../graph.js";
import { cast, exp, mul } from "../ops/elementwise.js";
import { gemm } from "../ops/matmul.js";
import { reshape, transpose } from "../ops/shape.js";
import { winogradKernel } from "../ops/winograd.js";
import type { Tensor } from "../tensor.js";
import { takeOutPreparation } from "./preparation.js";
import type { WeightRecipe } from "./weight-recipe.js";
import type { WeightUse } from "./weight-use.js";

const external = (graph: Graph, name: string, shape: readonly number[], offsetBytes = 0) =>
  graph.external(name, "float16", shape, { filePath: "/w", offsetBytes, sizeBytes: 0 });

const SIDE = 200;

describe("takeOutPreparation", () => {
  test("takes out conversions and transpositions, the same of forward and backward pass once", () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [2, SIDE]);
    const stored = external(graph, "matrix", [SIDE, SIDE]);
    const converted = () => cast(graph, stored, "float32");
    const h = gemm(graph, x, converted(), { transB: true });
    const y = gemm(graph, gemm(graph, h, converted()), transpose(graph, converted(), [1, 0]));
    const { nodes, weights } = takeOutPreparation(graph, [y]);
    expect(nodes.map(({ op }) => op)).toEqual(["Gemm", "Gemm", "Gemm"]);
    expect(weights.map(({ recipe }) => recipe)).toEqual([
      { step: "read", filePath: "/w", offsetBytes: 0, dtype: "float16", shape: [SIDE, SIDE] },
      {
        step: "transpose",
        of: { step: "read", filePath: "/w", offsetBytes: 0, dtype: "float16", shape: [SIDE, SIDE] },
        permutation: [1, 0],
        shape: [SIDE, SIDE],
      },
    ]);
    const [plain, turned] = weights;
    expect(nodes.map(({ inputs }) => inputs[1])).toEqual([plain!.tensor, plain!.tensor, turned!.tensor]);
  });

  test("gives the same computation the same key in another graph, and another one another", () => {
    const keyOf = (build: (graph: Graph) => Tensor) => {
      const graph = new Graph();
      const x = graph.input("x", "float32", [2, SIDE]);
      return takeOutPreparation(graph, [gemm(graph, x, build(graph))]).weights.map(({ key }) => key);
    };
    const square = [SIDE, SIDE];
    const first = keyOf((graph) => cast(graph, external(graph, "a", square), "float32"));
    expect(keyOf((graph) => cast(graph, external(graph, "b", square), "float32"))).toEqual(first);
    expect(keyOf((graph) => cast(graph, external(graph, "a", square, 2), "float32"))).not.toEqual(first);
    expect(
      keyOf((graph) => transpose(graph, cast(graph, external(graph, "a", square), "float32"), [1, 0])),
    ).not.toEqual(first);
  });

  test("leaves small results, what it has no recipe for, and outputs to the model", () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [2, SIDE]);
    const small = cast(graph, external(graph, "bias", [SIDE]), "float32");
    const large = cast(graph, external(graph, "matrix", [SIDE, SIDE]), "float32");
    const y = mul(graph, gemm(graph, x, exp(graph, large)), small);
    const asked = cast(graph, external(graph, "asked", [SIDE, SIDE], 8), "float32");
    const { nodes, weights } = takeOutPreparation(graph, [y, asked]);
    expect(nodes.map(({ op }) => op).sort()).toEqual(["Cast", "Cast", "Exp", "Gemm", "Mul"]);
    expect(weights.map(({ tensor }) => tensor)).toEqual([large]);
  });

  test("knows kernels of tiles, of weights that are reshaped", () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [16, 64, 1]);
    const stored = external(graph, "kernel", [64, 64 * 9]);
    const w = reshape(graph, cast(graph, stored, "float32"), [64, 64, 3, 3]);
    const kernel = winogradKernel(graph, w, 2);
    const y = graph.node1({
      op: "MatMul",
      inputs: [kernel, x],
      outputs: [{ shape: [16, 64, 1], dtype: "float32" }],
    });
    const [weight] = takeOutPreparation(graph, [y]).weights;
    expect(weight!.recipe).toMatchObject({
      step: "combineTaps",
      of: { step: "read", shape: [64, 64, 3, 3] },
      shape: [16, 64, 64],
    });
    // The second place of a tile: the sum of the taps of the middle row, halved.
    const { matrix } = weight!.recipe as Extract<WeightRecipe, { step: "combineTaps" }>;
    expect(matrix[1]!.map(Math.abs)).toEqual([...[0.5, 0.5, 0.5, 0, 0, 0, 0, 0, 0]]);
  });
});

describe("a model whose weights are prepared", () => {
  test.each(["float16", "float32"] as const)(
    "computes what one does that converts them: %s",
    async (dtype) => {
      const step = loraStep({ folder: await tempFolder(), dtype, channels: 64, size: 8, blocks: 1 });
      const results = async (weightUse: WeightUse) => {
        const session = await openGraphSession(step.graph, step.outputs, {
          device: "cpu",
          mode: weightUse === "perUse" ? "lean" : "fast",
          weightUse,
          prepared: new PreparedWeights(),
          threads: 1,
        });
        const outputs = await session.run(step.feeds(4));
        await session.release();
        return outputs;
      };
      expect(await results("prepared")).toEqual(await results("folded"));
    },
  );

  test("shares them with the next session", async () => {
    const filePath = join(await tempFolder(), "weights.bin");
    writeFileSync(filePath, new Uint8Array(2 * SIDE * SIDE).fill(0x3c));
    const prepared = new PreparedWeights();
    const open = (rows: number) => {
      const graph = new Graph();
      const x = graph.input("x", "float32", [rows, SIDE]);
      const sizeBytes = 2 * SIDE * SIDE;
      const stored = graph.external("w", "float16", [SIDE, SIDE], { filePath, offsetBytes: 0, sizeBytes });
      const y = gemm(graph, x, cast(graph, stored, "float32"));
      const { weights } = takeOutPreparation(graph, [y]);
      return { weights, session: openGraphSession(graph, { y }, { ...CPU, prepared }) };
    };
    const first = open(1);
    expect(prepared.has(first.weights[0]!.key)).toBe(false);
    const session = await first.session;
    expect(prepared.has(first.weights[0]!.key)).toBe(true);
    const before = await prepared.of(first.weights);
    // The bytes that are there now do not matter to what was prepared of them.
    writeFileSync(filePath, new Uint8Array(2 * SIDE * SIDE));
    const second = open(2);
    expect(await prepared.of(second.weights)).toEqual(before);
    const ones = (rows: number) => ({ x: float32(new Float32Array(rows * SIDE).fill(1), [rows, SIDE]) });
    const [a, b] = [await session.run(ones(1)), await (await second.session).run(ones(2))];
    expect([...(b.y!.data as Float32Array).subarray(0, SIDE)]).toEqual([...(a.y!.data as Float32Array)]);
    prepared.release();
    expect(prepared.has(first.weights[0]!.key)).toBe(false);
    expect(await session.run(ones(1))).toEqual(a);
  });
});

const CPU = { device: "cpu", mode: "fast", weightUse: "prepared", threads: 1 } as const;
