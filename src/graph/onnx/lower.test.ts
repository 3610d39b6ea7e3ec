import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { InferenceSession } from "onnxruntime-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ExecutionMode, float32, Session } from "../../runtime/session.js";
import { gradients } from "../gradient.js";
import { type ExternalData, Graph } from "../graph.js";
import { add, cast, exp, mul, neg } from "../ops/elementwise.js";
import { gemm } from "../ops/matmul.js";
import { transpose } from "../ops/shape.js";
import type { Tensor } from "../tensor.js";
import { lowerToOnnx } from "./lower.js";
import type { NodeOrderOptions } from "./node-order.js";

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "dylora-lower-"));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const MODES: readonly ExecutionMode[] = ["fast", "lean"];

async function run(
  graph: Graph,
  outputs: Readonly<Record<string, Tensor>>,
  feeds: Readonly<Record<string, readonly number[]>>,
  options: NodeOrderOptions & { mode?: ExecutionMode } = {},
): Promise<Record<string, number[]>> {
  const { mode = "fast" } = options;
  const session = await Session.create(lowerToOnnx(graph, outputs, options), {
    device: "cpu",
    mode,
    threads: 1,
  });
  try {
    const results = await session.run(
      Object.fromEntries(
        Object.entries(feeds).map(([name, values]) => [
          name,
          float32(Float32Array.from(values), [values.length]),
        ]),
      ),
    );
    return Object.fromEntries(
      Object.entries(results).map(([name, { data }]) => [name, Array.from(data as Float32Array)]),
    );
  } finally {
    await session.release();
  }
}

interface DecodedNode {
  op: string;
  inputs: string[];
  outputs: string[];
}

/** The nodes of a serialized model, in file order. Field numbers: see proto.ts. */
function decodeNodes(bytes: Uint8Array): DecodedNode[] {
  const fields = (buffer: Uint8Array, visit: (field: number, reader: BinaryReader) => boolean) => {
    const reader = new BinaryReader(buffer);
    while (reader.pos < reader.len) {
      const [field, type] = reader.tag();
      if (type !== WireType.LengthDelimited || !visit(field, reader)) reader.skip(type);
    }
  };
  const nodes: DecodedNode[] = [];
  fields(bytes, (field, model) => {
    if (field !== 7) return false;
    fields(model.bytes(), (graphField, graph) => {
      if (graphField !== 1) return false;
      const node: DecodedNode = { op: "", inputs: [], outputs: [] };
      fields(graph.bytes(), (nodeField, reader) => {
        if (nodeField === 1) node.inputs.push(reader.string());
        else if (nodeField === 2) node.outputs.push(reader.string());
        else if (nodeField === 4) node.op = reader.string();
        else return false;
        return true;
      });
      nodes.push(node);
      return true;
    });
    return true;
  });
  return nodes;
}

const lowered = (graph: Graph, outputs: Readonly<Record<string, Tensor>>, options?: NodeOrderOptions) =>
  decodeNodes(lowerToOnnx(graph, outputs, options).bytes);

describe("the model", () => {
  test("is one that onnxruntime reads, with the names, types and shapes asked for", async () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [2, "rank"]);
    const indices = graph.input("indices", "int64", [3]);
    const model = lowerToOnnx(graph, { y: exp(graph, x), same: indices });
    const session = await InferenceSession.create(model.bytes);
    expect(session.inputMetadata).toMatchObject([
      { name: "x", isTensor: true, type: "float32", shape: [2, "rank"] },
      { name: "indices", isTensor: true, type: "int64", shape: [3] },
    ]);
    expect(session.outputMetadata).toMatchObject([
      { name: "y", isTensor: true, type: "float32", shape: [2, "rank"] },
      { name: "same", isTensor: true, type: "int64", shape: [3] },
    ]);
    await session.release();
    expect(model.inputs).toEqual([x, indices]);
    expect([...model.outputs.keys()]).toEqual(["y", "same"]);
    expect(model.dataFolder).toBeNull();
  });

  test("holds no node and no input that the outputs do not depend on", () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [2]);
    const unused = graph.input("unused", "float32", [2]);
    const weight = graph.constant([1, 2], "float32");
    const y = exp(graph, x);
    neg(graph, mul(graph, add(graph, unused, weight), y));
    const model = lowerToOnnx(graph, { y });
    expect(decodeNodes(model.bytes)).toEqual([{ op: "Exp", inputs: ["x"], outputs: ["y"] }]);
    expect(model.inputs).toEqual([x]);
    expect(model.nodeCount).toBe(1);
    // The constant's bytes are left out too.
    expect(model.bytes.length).toBeLessThan(200);
  });

  test("keeps every output of a node when one of them is used", async () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [3]);
    const [, second] = graph.node({
      op: "Split",
      inputs: [x, graph.constant([1, 2], "int64")],
      attributes: { axis: 0 },
      outputs: [
        { shape: [1], dtype: "float32" },
        { shape: [2], dtype: "float32" },
      ],
    });
    expect(await run(graph, { second: second! }, { x: [1, 2, 3] })).toEqual({ second: [2, 3] });
  });
});

describe("outputs", () => {
  test.each(MODES)(
    "may be inputs, constants, read by other nodes, or the same tensor twice (%s)",
    async (mode) => {
      const graph = new Graph();
      const x = graph.input("x", "float32", [2]);
      const constant = graph.constant([5, 6], "float32");
      const negated = neg(graph, x);
      const outputs = { copy: x, constant, negated, again: negated, sum: add(graph, negated, constant) };
      expect(await run(graph, outputs, { x: [1, 2] }, { mode })).toEqual({
        copy: [1, 2],
        constant: [5, 6],
        negated: [-1, -2],
        again: [-1, -2],
        sum: [4, 4],
      });
      const identities = lowered(graph, outputs).filter(({ op }) => op === "Identity");
      expect(identities).toEqual([
        { op: "Identity", inputs: ["x"], outputs: ["copy"] },
        { op: "Identity", inputs: [constant.name], outputs: ["constant"] },
        { op: "Identity", inputs: ["negated"], outputs: ["again"] },
      ]);
    },
  );
});

describe("node order", () => {
  test("is the order they were made in, leaves last and in reverse", () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [2]);
    const a = exp(graph, x);
    const leafOfA = neg(graph, a);
    const b = mul(graph, a, a);
    const leafOfB = neg(graph, b);
    const c = add(graph, b, a);
    const outputs = { leafOfA, leafOfB, c };
    expect(lowered(graph, outputs).map(({ outputs: [name] }) => name)).toEqual([
      a.name,
      b.name,
      "c",
      "leafOfB",
      "leafOfA",
    ]);
  });

  test("counts an output that other nodes read as no leaf", () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [2]);
    const a = exp(graph, x);
    const b = neg(graph, a);
    expect(lowered(graph, { b, a }).map(({ outputs: [name] }) => name)).toEqual(["a", "b"]);
  });

  test("puts the gradients of LoRA factors after everything else", () => {
    const graph = new Graph();
    let h = graph.input("x", "float32", [4, 3]);
    const factors: Tensor[] = [];
    for (let layer = 0; layer < 3; layer++) {
      const down = graph.input(`down${layer}`, "float32", ["rank", 3], { trainable: true });
      const up = graph.input(`up${layer}`, "float32", [3, "rank"], { trainable: true });
      factors.push(down, up);
      h = gemm(graph, gemm(graph, h, down, { transB: true }), up, { transB: true, c: h });
    }
    const seed = { tensor: h, gradient: graph.input("dy", "float32", [4, 3]) };
    const factorGradients = gradients(graph, graph.operations, [seed], factors);
    const outputs = Object.fromEntries(
      factorGradients.map((gradient, i) => [`d_${factors[i]!.name}`, gradient!]),
    );
    const names = lowered(graph, outputs).map(({ outputs: [name] }) => name!);
    // The backward pass makes them from the last layer to the first; onnxruntime starts from the last leaf.
    expect(names.slice(-6)).toEqual(["d_down0", "d_up0", "d_down1", "d_up1", "d_down2", "d_up2"]);
    expect(names.slice(0, -6).some((name) => name.startsWith("d_"))).toBe(false);
  });
});

describe("weights in files", () => {
  const values = [1.5, -2, 0.25, 3, -0.5, 8];
  const inFloat32 = new Uint8Array(Float32Array.from(values).buffer);
  // 1.5, -2, 0.25, 3, -0.5, 8 as IEEE 754 binary16, and as the upper half of binary32.
  const inFloat16 = new Uint8Array(Uint16Array.of(0x3e00, 0xc000, 0x3400, 0x4200, 0xb800, 0x4800).buffer);

  const inBfloat16 = new Uint8Array(Uint16Array.of(0x3fc0, 0xc000, 0x3e80, 0x4040, 0xbf00, 0x4100).buffer);

  /** A file laid out like .safetensors: length of the header, header, data; `weight` begins at `offset` in it. */
  function writeWeights(path: string, weight: Uint8Array, offset: number): ExternalData {
    const filePath = join(root, path);
    mkdirSync(dirname(filePath), { recursive: true });
    const header = new TextEncoder().encode("{}");
    const lengthBytes = new Uint8Array(8);
    new DataView(lengthBytes.buffer).setBigUint64(0, BigInt(header.length), true);
    const before = new Uint8Array(offset - lengthBytes.length - header.length).fill(0xaa);
    writeFileSync(
      filePath,
      Buffer.concat([lengthBytes, header, before, weight, new Uint8Array(5).fill(0xbb)]),
    );
    return { filePath, offsetBytes: offset, sizeBytes: weight.length };
  }

  const cases = [
    { dtype: "float32", bytes: inFloat32 },
    { dtype: "float16", bytes: inFloat16 },
    { dtype: "bfloat16", bytes: inBfloat16 },
  ] as const;
  // Nothing in a .safetensors file is aligned: headers have any length. The last begins past the first page of memory.
  const offsets = [13, 11, 64, 4097, 70_003];

  for (const mode of MODES) {
    for (const { dtype, bytes } of cases) {
      test.each(offsets)(`are read in place: ${dtype}, ${mode}, at byte %i`, async (offset) => {
        const graph = new Graph();
        const x = graph.input("x", "float32", [3]);
        const data = writeWeights(`at-${dtype}-${mode}-${offset}.safetensors`, bytes, offset);
        const weight = graph.external("weight", dtype, [2, 3], data);
        const y = mul(graph, cast(graph, weight, "float32"), x);
        const expected = values.map((value, i) => value * [1, 10, 100][i % 3]!);
        expect(await run(graph, { y }, { x: [1, 10, 100] }, { mode })).toEqual({ y: expected });
      });
    }
  }

  test.each(MODES)("may lie in several folders below one root (%s)", async (mode) => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [6]);
    const unet = graph.external(
      "unet",
      "float32",
      [6],
      writeWeights("model/unet/w.safetensors", inFloat32, 21),
    );
    const text = graph.external(
      "text",
      "float16",
      [6],
      writeWeights("model/text_encoder/w.safetensors", inFloat16, 37),
    );
    const y = add(graph, mul(graph, unet, x), cast(graph, text, "float32"));
    const outputs = { y };
    expect(lowerToOnnx(graph, outputs).dataFolder).toBe(join(root, "model"));
    const ones = values.map(() => 1);
    expect(await run(graph, outputs, { x: ones }, { mode })).toEqual({ y: values.map((value) => 2 * value) });
  });

  test.each([
    { paths: ["one/w"], folder: "one" },
    { paths: ["one/w", "one/v"], folder: "one" },
    { paths: ["one/w", "one/deep/er/v"], folder: "one" },
    { paths: ["one/deep/w", "onetwo/v"], folder: "" },
  ])("$paths share the folder '$folder'", ({ paths, folder }) => {
    const graph = new Graph();
    const weights = paths.map((path, i) =>
      graph.external(`w${i}`, "float32", [1], { filePath: join(root, path), offsetBytes: 0, sizeBytes: 4 }),
    );
    const outputs = Object.fromEntries(weights.map((weight, i) => [`y${i}`, neg(graph, weight)]));
    expect(lowerToOnnx(graph, outputs).dataFolder).toBe(join(root, folder));
  });

  test("that no output depends on are not looked for", async () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [1]);
    const missing = { filePath: join(root, "missing.safetensors"), offsetBytes: 0, sizeBytes: 4 };
    neg(graph, graph.external("unused", "float32", [1], missing));
    const model = lowerToOnnx(graph, { y: neg(graph, x) });
    expect(model.dataFolder).toBeNull();
    expect(await run(graph, { y: neg(graph, x) }, { x: [2] })).toEqual({ y: [-2] });
  });
});

describe("weightConversionPerUse", () => {
  /** Two products with one float16 weight, once as it is and once transposed, twice cast by one node. */
  function twoUses() {
    const graph = new Graph();
    const x = graph.input("x", "float32", [2]);
    const half = cast(graph, graph.constant([1, 2, 3, 4], "float32", [2, 2]), "float16");
    const weight = cast(graph, half, "float32");
    const first = mul(graph, x, weight);
    const second = mul(graph, x, transpose(graph, weight, [1, 0]));
    return { graph, outputs: { first, second, third: add(graph, weight, first) } };
  }

  test.each(MODES)("changes no result (%s)", async (mode) => {
    const { graph, outputs } = twoUses();
    const feeds = { x: [10, 100] };
    const shared = await run(graph, outputs, feeds, { mode });
    expect(await run(graph, outputs, feeds, { mode, weightConversionPerUse: true })).toEqual(shared);
    expect(shared).toEqual({
      first: [10, 200, 30, 400],
      second: [10, 300, 20, 400],
      third: [11, 202, 33, 404],
    });
  });

  test("gives every reader its own conversion, which nobody else reads", () => {
    const { graph, outputs } = twoUses();
    const nodes = lowered(graph, outputs, { weightConversionPerUse: true });
    const converted = nodes.filter(({ op }) => op === "Cast" || op === "Transpose");
    // Three readers: two casts each, and one transposition.
    expect(converted.map(({ op }) => op).sort()).toEqual([...Array<string>(6).fill("Cast"), "Transpose"]);
    for (const {
      outputs: [name],
    } of converted) {
      expect(nodes.filter(({ inputs }) => inputs.includes(name!))).toHaveLength(1);
    }
    expect(new Set(nodes.flatMap((node) => node.outputs)).size).toBe(nodes.length);
  });

  test("leaves nodes alone that depend on an input", () => {
    const graph = new Graph();
    const x = graph.input("x", "float32", [2]);
    const shared = exp(graph, x);
    const outputs = { a: neg(graph, shared), b: mul(graph, shared, shared) };
    expect(lowered(graph, outputs, { weightConversionPerUse: true })).toEqual(lowered(graph, outputs));
  });
});
