/**
 * What a run will need in memory, told before anything is loaded.
 *
 * The constants were measured as resident memory on Linux x64 (glibc), Node 20.20, onnxruntime-node 1.30, with
 * U-Nets of Stable Diffusion's structure from 9 million to 860 million parameters, in both modes and with float16 and
 * float32 weights. For those 14 processes, peaks 0.36 to 12.2 GB, the estimate was 10 % below to 24 % above the peak.
 */

import type { ActivationMemory } from "../graph/memory.js";

/** A process that has loaded dylora and made its first session: node 44 MB, dylora 44 MB, onnxruntime's code and threads 26 MB. */
const PROCESS_BYTES = 114e6;

/** A node in the graph, in the model and in the session; half of it is in JavaScript. */
const BYTES_PER_NODE = 8e3;

/** What onnxruntime's allocator takes per byte of activations, by rounding and by holes: 1.1 to 1.28 were seen. */
const ALLOCATOR_FACTOR = 1.25;
/** What it takes beyond that as ranks, and with them sizes, change from run to run. 4 to 50 MB were seen. */
const ALLOCATOR_SLACK_BYTES = 24e6;

/** What folding constants takes per byte of what it computes, the holes that it leaves included: 1.05 to 1.1 were seen. */
const PREPARATION_FACTOR = 1.08;

export interface SessionMemory {
  /** What the session is for, as it shall appear in the parts. */
  name: string;
  memory: ActivationMemory;
}

export interface RunMemory {
  /** The sessions of one phase exist at the same time; the phases follow each other. */
  phases: readonly (readonly SessionMemory[])[];
  /** What the process holds beside its sessions: factors, gradients, optimizer state, cached latents, tables. Default 0. */
  hostBytes?: number;
}

export interface MemoryPart {
  name: string;
  bytes: number;
}

export interface RunEstimate {
  /** Peak of resident memory, file pages of mapped weights included. */
  totalBytes: number;
  /** What the total consists of, in the phase that needs most. */
  parts: MemoryPart[];
}

/**
 * Peak memory of a run on the CPU.
 *
 * On a GPU weights and activations lie in its memory, and the estimate is too high for this process.
 */
export function estimateRunBytes({ phases, hostBytes = 0 }: RunMemory): RunEstimate {
  const always: MemoryPart[] = [
    { name: "process", bytes: PROCESS_BYTES },
    { name: "data beside the sessions", bytes: hostBytes },
  ];
  let largest: MemoryPart[] = [];
  for (const sessions of phases) {
    const parts = sessions.flatMap(sessionParts);
    if (totalOf(parts) > totalOf(largest)) largest = parts;
  }
  const parts = [...always, ...largest].filter(({ bytes }) => bytes > 0);
  return { totalBytes: totalOf(parts), parts };
}

function sessionParts({ name, memory }: SessionMemory): MemoryPart[] {
  const { peakBytes, inputBytes, outputBytes, nodeCount } = memory;
  const { mappedWeightBytes, convertedWeightBytes } = memory;
  const activationBytes = ALLOCATOR_FACTOR * peakBytes + ALLOCATOR_SLACK_BYTES;
  const graph = { name: `${name}: graph`, bytes: BYTES_PER_NODE * nodeCount };
  const data = { name: `${name}: inputs and outputs`, bytes: inputBytes + outputBytes };
  const activations = { name: `${name}: activations`, bytes: activationBytes };
  const mapped = { name: `${name}: weights in their file`, bytes: mappedWeightBytes };
  const prepared = { name: `${name}: prepared weights`, bytes: PREPARATION_FACTOR * convertedWeightBytes };
  return [graph, data, prepared, mapped, activations];
}

function totalOf(parts: readonly MemoryPart[]): number {
  return parts.reduce((sum, { bytes }) => sum + bytes, 0);
}
