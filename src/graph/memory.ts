/**
 * How much memory onnxruntime needs to execute a graph, without executing it.
 *
 * A replay of what onnxruntime 1.30 does on the CPU, checked against onnxruntime itself in memory.test.ts. Results share a
 * buffer by the rules of its planner (framework/allocation_planner.cc, `ComputeSingleStreamReusePlan`):
 *
 * - a view (Reshape) is its input's buffer;
 * - an operator that can work in place does, when nobody else reads its input;
 * - a new result takes over the last freed buffer of its own shape. That buffer stays allocated from its first to its last
 *   user, also while nobody uses it in between.
 */

import { internalError } from "../errors.js";
import type { Graph, Node } from "./graph.js";
import { executionOrder, simplify } from "./onnx/execution-order.js";
import { type NodeOrderOptions, orderedNodes } from "./onnx/node-order.js";
import { ELEMENT_SIZE_BYTES, type Tensor } from "./tensor.js";

export interface ActivationMemoryOptions extends NodeOrderOptions {
  /** Length of every symbolic axis. */
  symbols: Readonly<Record<string, number>>;
  /**
   * Whether the session computes constants ahead of time and merges equal nodes (fast mode) or executes the nodes as they
   * are (lean mode). Default true.
   */
  foldsConstants?: boolean;
}

export interface ActivationMemory {
  /** Most bytes that results of nodes occupy at one time, outputs included, inputs and weights not. */
  peakBytes: number;
  inputBytes: number;
  outputBytes: number;
  /** The weights and constants that the outputs depend on, in the types they are stored in. */
  weightBytes: number;
  /** What the session computes from them ahead of time and keeps (float32 copies, transpositions); 0 without folding. */
  convertedWeightBytes: number;
  /** Nodes executed in one run. */
  nodeCount: number;
  /** Weights and constants read in one run. */
  weightCount: number;
}

/**
 * Memory of one execution of `outputs` on the CPU.
 *
 * Not counted: scratch space inside operators (tens of megabytes for a U-Net), and what an allocator loses between buffers.
 */
export function estimateActivationBytes(
  graph: Graph,
  outputs: Readonly<Record<string, Tensor>>,
  options: ActivationMemoryOptions,
): ActivationMemory {
  const { symbols, foldsConstants = true } = options;
  const sizeOf = (tensor: Tensor) => sizeBytes(tensor, symbols);
  const total = (tensors: Iterable<Tensor>) => [...tensors].reduce((sum, tensor) => sum + sizeOf(tensor), 0);

  const { nodes: copies, results } = outputCopies(graph, Object.values(outputs));
  const lowered = [...orderedNodes(graph, Object.values(outputs), options), ...copies];
  const { nodes, computed } = foldsConstants
    ? simplify(lowered, graph.constants, results)
    : { nodes: lowered, computed: [] };
  const isRead = readTensors(lowered);
  const isReadAtRun = readTensors(nodes);
  const constants = [...graph.constants.keys()];
  return {
    peakBytes: peakBytes(executionOrder(nodes), results, sizeOf),
    inputBytes: total(graph.inputs.filter((input) => isRead.has(input))),
    outputBytes: total(results),
    weightBytes: total(constants.filter((constant) => isRead.has(constant))),
    convertedWeightBytes: total(computed),
    nodeCount: nodes.length,
    weightCount: constants.filter((constant) => isReadAtRun.has(constant)).length + computed.length,
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

/** Whose result is its first input's buffer. */
const VIEWS: ReadonlySet<string> = new Set(["Reshape", "Identity"]);
/** Who writes into its first input's buffer, if it may. (In 1.30 the arithmetic operators do not.) */
const IN_PLACE: ReadonlySet<string> = new Set(["Sigmoid", "Softmax", "Cast"]);

interface Buffer {
  /** Element size and shape of the result it was allocated for, which a later user must have. */
  readonly kind: string;
  readonly sizeBytes: number;
  /** Not the caller's: freed after its last reader. */
  readonly isTemporary: boolean;
  readonly firstStep: number;
  /** Step of the last reader so far; null without one (then it stays allocated until the end). */
  lastStep: number | null;
  /** Inputs still to be read from it. */
  pendingReads: number;
}

/** Stands for the buffers of inputs and weights, which are not the session's. */
const NOT_OWNED: Buffer = {
  kind: "",
  sizeBytes: 0,
  isTemporary: false,
  firstStep: 0,
  lastStep: null,
  pendingReads: 0,
};

/**
 * Gives every result a buffer, in the order of execution, and adds up.
 *
 * @param nodes - in the order of execution
 * @param results - what the caller reads
 */
function peakBytes(
  nodes: readonly Node[],
  results: ReadonlySet<Tensor>,
  sizeOf: (tensor: Tensor) => number,
): number {
  const reads = new Map<Tensor, number>();
  for (const { inputs } of nodes) {
    for (const input of inputs) if (input !== null) reads.set(input, (reads.get(input) ?? 0) + 1);
  }
  const bufferOf = new Map<Tensor | null, Buffer>();
  const owned: Buffer[] = [];
  /** Freed buffers, the last freed at the end. */
  const free: Buffer[] = [];

  const bufferFor = (node: Node, output: Tensor, step: number): Buffer => {
    const kind = kindOf(output);
    const isTemporary = !results.has(output);
    if (isTemporary) {
      const input = node.inputs[0] ?? null;
      const source = bufferOf.get(input) ?? NOT_OWNED;
      if (VIEWS.has(node.op)) return source;
      const canOverwrite = source.isTemporary && source.pendingReads === 1 && kindOf(input!) === kind;
      if (IN_PLACE.has(node.op) && canOverwrite) return source;
      const freed = free.findLastIndex((buffer) => buffer.kind === kind);
      if (freed >= 0) return free.splice(freed, 1)[0]!;
    }
    const buffer = {
      kind,
      sizeBytes: sizeOf(output),
      isTemporary,
      firstStep: step,
      lastStep: null,
      pendingReads: 0,
    };
    owned.push(buffer);
    return buffer;
  };

  for (const [step, node] of nodes.entries()) {
    for (const output of node.outputs) {
      const buffer = bufferFor(node, output, step);
      bufferOf.set(output, buffer);
      if (buffer !== NOT_OWNED) buffer.pendingReads += reads.get(output) ?? 0;
    }
    for (const input of node.inputs) {
      const buffer = bufferOf.get(input);
      if (buffer === undefined || buffer === NOT_OWNED) continue;
      buffer.lastStep = step;
      if (--buffer.pendingReads === 0 && buffer.isTemporary) free.push(buffer);
    }
    for (const output of node.outputs) {
      const buffer = bufferOf.get(output)!;
      if (!reads.has(output) && buffer.isTemporary) free.push(buffer);
    }
  }
  return mostAtOnce(owned, nodes.length);
}

function kindOf({ dtype, shape }: Tensor): string {
  return `${ELEMENT_SIZE_BYTES[dtype]}x${shape.join("x")}`;
}

function mostAtOnce(buffers: readonly Buffer[], steps: number): number {
  const change = new Float64Array(steps + 1);
  for (const { sizeBytes, isTemporary, firstStep, lastStep } of buffers) {
    change[firstStep]! += sizeBytes;
    if (isTemporary && lastStep !== null) change[lastStep + 1]! -= sizeBytes;
  }
  let held = 0;
  let most = 0;
  for (const difference of change) {
    held += difference;
    most = Math.max(most, held);
  }
  return most;
}
