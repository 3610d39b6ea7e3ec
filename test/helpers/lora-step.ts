/**
 * A small training step with every kind of layer that a U-Net's has, on random weights in a file: convolutions, group
 * norms, self-attention with LoRA branches, a skip connection.
 */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { checkpoint, gradients } from "../../src/graph/gradient.js";
import { Graph } from "../../src/graph/graph.js";
import { silu } from "../../src/graph/ops/activation.js";
import { attention } from "../../src/graph/ops/attention.js";
import { conv2d } from "../../src/graph/ops/conv.js";
import { add, cast, mul } from "../../src/graph/ops/elementwise.js";
import { gemm } from "../../src/graph/ops/matmul.js";
import { groupNorm, layerNorm } from "../../src/graph/ops/norm.js";
import { mean } from "../../src/graph/ops/reduce.js";
import { reshape, transpose } from "../../src/graph/ops/shape.js";
import { ELEMENT_SIZE_BYTES, elementCount, type Tensor } from "../../src/graph/tensor.js";
import { randomStream } from "../../src/random/stream.js";
import { float32, type HostTensor } from "../../src/runtime/session.js";

export interface LoraStepOptions {
  /** Where the weights are written. */
  folder: string;
  dtype: "float32" | "float16";
  channels: number;
  /** Height and width. */
  size: number;
  blocks: number;
  checkpointing?: boolean;
}

export interface LoraStep {
  graph: Graph;
  outputs: Record<string, Tensor>;
  /** A tensor of random numbers for every input, at a rank. */
  feeds(rank: number): Record<string, HostTensor>;
}

const HEADS = 4;

export function loraStep(options: LoraStepOptions): LoraStep {
  const { folder, dtype, channels, size, blocks, checkpointing = false } = options;
  const graph = new Graph();
  const filePath = join(folder, `weights-${dtype}-${channels}-${blocks}.bin`);
  let weightBytes = 0;
  const weight = (...shape: number[]): Tensor => {
    const sizeBytes = elementCount(shape) * ELEMENT_SIZE_BYTES[dtype];
    const data = { filePath, offsetBytes: weightBytes, sizeBytes };
    weightBytes += sizeBytes;
    return graph.external(`weight_${weightBytes}`, dtype, shape, data);
  };
  // Converted where it is used, as the models do it.
  const used = (stored: Tensor) => cast(graph, stored, "float32");
  const factors: Tensor[] = [];
  const lora = (): { down: Tensor; up: Tensor } => {
    const name = `module${factors.length / 2}`;
    const factor = (kind: string) =>
      graph.input(`${name}.${kind}`, "float32", ["rank", channels], { trainable: true });
    const branch = { down: factor("down"), up: factor("up") };
    factors.push(branch.down, branch.up);
    return branch;
  };

  const blockOf = () => {
    const norm = { gamma: weight(channels), beta: weight(channels) };
    const kernel = weight(channels, channels, 3, 3);
    const linears = [0, 1, 2, 3].map(() => ({ matrix: weight(channels, channels), ...lora() }));
    return (x: Tensor): Tensor => {
      const [gamma, beta] = [used(norm.gamma), used(norm.beta)];
      const normalized = groupNorm(graph, x, gamma, beta, { groups: 4, eps: 1e-5, activation: "silu" });
      const h = add(graph, x, conv2d(graph, normalized, used(kernel), { padding: 1 }));
      const rows = reshape(graph, transpose(graph, h, [0, 2, 3, 1]), [size * size, channels]);
      const tokens = layerNorm(graph, rows, gamma, beta, 1e-5);
      const linear = (input: Tensor, { matrix, down, up }: (typeof linears)[number]) => {
        const base = gemm(graph, input, used(matrix), { transB: true });
        return gemm(graph, gemm(graph, input, down, { transB: true }), up, { c: base });
      };
      const [q, k, v] = linears.slice(0, 3).map((module) => linear(tokens, module)) as [
        Tensor,
        Tensor,
        Tensor,
      ];
      const shape = {
        batch: 1,
        queries: size * size,
        keys: size * size,
        heads: HEADS,
        headDim: channels / HEADS,
      };
      const attended = linear(silu(graph, attention(graph, q, k, v, shape)), linears[3]!);
      return add(
        graph,
        h,
        transpose(graph, reshape(graph, attended, [1, size, size, channels]), [0, 3, 1, 2]),
      );
    };
  };

  const built = Array.from({ length: blocks }, blockOf);
  const x = graph.input("x", "float32", [1, channels, size, size]);
  let h: Tensor = conv2d(graph, x, used(weight(channels, channels, 3, 3)), { padding: 1 });
  const skip = h;
  for (const block of built) {
    // The block is built again in the backward pass, when `h` is another tensor.
    const input = h;
    h = checkpointing ? checkpoint(graph, () => [block(input)])[0]! : block(input);
  }
  h = add(graph, h, skip);
  const loss = mean(graph, mul(graph, h, h), [0, 1, 2, 3]);
  const seed = { tensor: loss, gradient: graph.constant([1], "float32", [1, 1, 1, 1]) };
  const outputs: Record<string, Tensor> = { loss };
  for (const [i, gradient] of gradients(graph, graph.operations, [seed], factors).entries()) {
    outputs[`gradient of ${factors[i]!.name}`] = gradient!;
  }

  writeFileSync(filePath, randomWeights(weightBytes, dtype));
  const feeds = (rank: number) => {
    const shapes = [
      ...factors.map(({ name }) => ({ name, shape: [rank, channels] })),
      { name: "x", shape: [1, channels, size, size] },
    ];
    return Object.fromEntries(
      shapes.map(({ name, shape }) => {
        const values = randomStream(1, name).fillNormal(new Float32Array(elementCount(shape)));
        return [
          name,
          float32(
            values.map((value) => value / 10),
            shape,
          ),
        ];
      }),
    );
  };
  return { graph, outputs, feeds };
}

/** Numbers of size 2^-6 to 2^-5. They must differ: onnxruntime keeps one packed copy of equal weights. */
function randomWeights(sizeBytes: number, dtype: "float32" | "float16"): Uint8Array {
  const bytes = new Uint8Array(sizeBytes);
  const words = dtype === "float32" ? new Uint32Array(bytes.buffer) : new Uint16Array(bytes.buffer);
  // A linear congruential generator is enough, and fast: its upper bits become sign and fraction.
  let state = 1;
  for (let i = 0; i < words.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    words[i] = dtype === "float32" ? (state & 0x807fffff) | 0x3c800000 : ((state >>> 16) & 0x83ff) | 0x2400;
  }
  return bytes;
}
