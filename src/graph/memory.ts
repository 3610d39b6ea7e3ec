/**
 * How much memory onnxruntime needs to execute a graph on the CPU, without executing it.
 *
 * A replay of what onnxruntime 1.30 does (order of execution, buffers, computed weights), checked against onnxruntime itself
 * in memory.test.ts.
 */

import { internalError } from "../errors.js";
import type { Graph, Node } from "./graph.js";
import { peakBytes } from "./onnx/buffer-plan.js";
import { executionOrder, simplify } from "./onnx/execution-order.js";
import { orderedNodes } from "./onnx/node-order.js";
import { takeOutPreparation } from "./onnx/preparation.js";
import type { WeightUse } from "./onnx/weight-use.js";
import { ELEMENT_SIZE_BYTES, type Tensor } from "./tensor.js";

export interface ActivationMemoryOptions {
  /** Length of every symbolic axis. */
  symbols: Readonly<Record<string, number>>;
  /** Default `folded`. */
  weightUse?: WeightUse;
}

export interface ActivationMemory {
  /** Most bytes that results of nodes occupy at one time, outputs included, inputs and weights not. */
  peakBytes: number;
  inputBytes: number;
  outputBytes: number;
  /** Weights and constants that every run reads as they are stored. */
  mappedWeightBytes: number;
  /** What the session computes from weights when it is created, and keeps: float32 copies, transpositions. */
  convertedWeightBytes: number;
  /** Bytes of the prepared weights that it reads, by their keys: those that other sessions read, too, are there once. */
  preparedWeights: ReadonlyMap<string, number>;
  /** Nodes executed in one run. */
  nodeCount: number;
}

/**
 * Memory of a session for `outputs`, and of one execution.
 *
 * Not counted: scratch space inside operators (tens of megabytes for a U-Net), and what an allocator loses between buffers.
 */
export function estimateActivationBytes(
  graph: Graph,
  outputs: Readonly<Record<string, Tensor>>,
  options: ActivationMemoryOptions,
): ActivationMemory {
  const { symbols, weightUse = "folded" } = options;
  const sizeOf = (tensor: Tensor) => sizeBytes(tensor, symbols);
  const total = (tensors: readonly Tensor[]) => tensors.reduce((sum, tensor) => sum + sizeOf(tensor), 0);

  const targets = Object.values(outputs);
  const { nodes: copies, results } = outputCopies(graph, targets);
  const { nodes: lowered, weights: prepared } =
    weightUse === "prepared"
      ? takeOutPreparation(graph, targets)
      : {
          nodes: orderedNodes(graph, targets, { weightConversionPerUse: weightUse === "perUse" }),
          weights: [],
        };
  const all = [...lowered, ...copies];
  const { nodes, computed } =
    weightUse === "perUse" ? { nodes: all, computed: [] } : simplify(all, graph.constants, results);
  const isUsed = readTensors(all);
  const weights = [...graph.constants.keys()].filter((weight) => isUsed.has(weight));
  const isRead = readTensors(nodes);
  return {
    peakBytes: peakBytes(executionOrder(nodes), results, sizeOf),
    inputBytes: total(graph.inputs.filter((input) => isUsed.has(input))),
    outputBytes: total([...results]),
    mappedWeightBytes: total(weights.filter((weight) => isRead.has(weight))),
    convertedWeightBytes: total(computed),
    preparedWeights: new Map(prepared.map(({ key, tensor }) => [key, sizeOf(tensor)])),
    nodeCount: nodes.length,
  };
}

/** An output that is an input, a constant, or asked for twice, is written by a copying node behind all others. */
function outputCopies(graph: Graph, outputs: readonly Tensor[]): { nodes: Node[]; results: Set<Tensor> } {
  const results = new Set<Tensor>();
  const nodes: Node[] = [];
  for (const tensor of outputs) {
    if (!results.has(tensor) && !graph.inputs.includes(tensor) && !graph.constants.has(tensor)) {
      results.add(tensor);
      continue;
    }
    const copy = { ...tensor };
    nodes.push({ op: "Identity", domain: "", inputs: [tensor], outputs: [copy], attributes: {} });
    results.add(copy);
  }
  return { nodes, results };
}

function readTensors(nodes: readonly Node[]): Set<Tensor | null> {
  return new Set(nodes.flatMap((node) => node.inputs));
}

function sizeBytes(tensor: Tensor, symbols: Readonly<Record<string, number>>): number {
  return tensor.shape.reduce<number>((size, dim) => {
    const length = typeof dim === "number" ? dim : symbols[dim];
    if (length === undefined) throw internalError(`no length for axis ${dim} of ${tensor.name}`);
    return size * length;
  }, ELEMENT_SIZE_BYTES[tensor.dtype]);
}
