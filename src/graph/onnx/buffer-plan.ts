/**
 * Which results share a buffer when onnxruntime executes a model, and how much is allocated at one time.
 *
 * A replay of onnxruntime 1.30 on the CPU (onnxruntime/core/framework/allocation_planner.cc,
 * `ComputeSingleStreamReusePlan` and `GenerateDeallocationPlan`):
 *
 * - a view (Reshape) is its input's buffer;
 * - an operator that can work in place does, when nobody else reads its input;
 * - a new result takes over the last freed buffer of its own shape. That buffer stays allocated from its first to its last
 *   user, also while nobody uses it in between.
 */

import type { Node } from "../graph.js";
import { ELEMENT_SIZE_BYTES, type Tensor } from "../tensor.js";

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

/**
 * Most bytes that results of nodes occupy at one time.
 *
 * @param nodes - in the order of execution
 * @param results - what the caller reads: never freed
 */
export function peakBytes(
  nodes: readonly Node[],
  results: ReadonlySet<Tensor>,
  sizeOf: (tensor: Tensor) => number,
): number {
  const reads = new Map<Tensor, number>();
  for (const { inputs } of nodes) {
    for (const input of inputs) if (input !== null) reads.set(input, (reads.get(input) ?? 0) + 1);
  }
  // Inputs and weights have none here: they are not the session's.
  const bufferOf = new Map<Tensor | null, Buffer>();
  const allocated: Buffer[] = [];
  /** Freed buffers, the last freed at the end. */
  const free: Buffer[] = [];

  const bufferFor = (node: Node, output: Tensor, step: number): Buffer | undefined => {
    const kind = kindOf(output);
    const isTemporary = !results.has(output);
    if (isTemporary) {
      const input = node.inputs[0] ?? null;
      const source = bufferOf.get(input);
      if (VIEWS.has(node.op)) return source;
      const isLastReader = source?.isTemporary === true && source.pendingReads === 1;
      if (IN_PLACE.has(node.op) && isLastReader && kindOf(input!) === kind) return source;
      const freed = free.findLastIndex((buffer) => buffer.kind === kind);
      if (freed >= 0) return free.splice(freed, 1)[0];
    }
    const sizeBytes = sizeOf(output);
    const buffer = { kind, sizeBytes, isTemporary, firstStep: step, lastStep: null, pendingReads: 0 };
    allocated.push(buffer);
    return buffer;
  };

  for (const [step, node] of nodes.entries()) {
    for (const output of node.outputs) {
      const buffer = bufferFor(node, output, step);
      if (buffer === undefined) continue;
      bufferOf.set(output, buffer);
      buffer.pendingReads += reads.get(output) ?? 0;
    }
    for (const input of node.inputs) {
      const buffer = bufferOf.get(input);
      if (buffer === undefined) continue;
      buffer.lastStep = step;
      if (--buffer.pendingReads === 0 && buffer.isTemporary) free.push(buffer);
    }
    for (const output of node.outputs) {
      const buffer = bufferOf.get(output);
      if (buffer?.isTemporary && !reads.has(output)) free.push(buffer);
    }
  }
  return mostAtOnce(allocated, nodes.length);
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
