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
const FOLDING_FACTOR = 1.08;

export interface SessionMemory {
  /** What the session is for, as it shall appear in the parts. */
  name: string;
  memory: ActivationMemory;
  /** Sessions of one name map the same files. Default: a name of its own. */
  weights?: string;
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
  /**
   * Of the total: file pages that several sessions map. They are counted for each in the resident memory of the process,
   * as the system does, but lie in memory once.
   */
  sharedBytes: number;
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
  let largest: readonly SessionMemory[] = [];
  for (const sessions of phases) {
    if (totalOf(phaseParts(sessions)) > totalOf(phaseParts(largest))) largest = sessions;
  }
  const parts = [...always, ...phaseParts(largest)].filter(({ bytes }) => bytes > 0);
  return { totalBytes: totalOf(parts), sharedBytes: sharedBytes(largest), parts };
}

/**
 * What one more session takes from the memory that is free: all but the weights that are mapped from their file.
 *
 * @param there - keys of weights that are prepared already
 */
export function sessionBytes(
  session: SessionMemory,
  there: { has(key: string): boolean } = new Set<string>(),
): number {
  const missing = [...session.memory.preparedWeights].filter(([key]) => !there.has(key));
  const missingBytes = missing.reduce((total, [, bytes]) => total + bytes, 0);
  return totalOf(sessionParts(session)) - session.memory.mappedWeightBytes + missingBytes;
}

/** Prepared weights lie in memory once, whatever number of sessions read them. */
function phaseParts(sessions: readonly SessionMemory[]): MemoryPart[] {
  const prepared = new Map(sessions.flatMap(({ memory }) => [...memory.preparedWeights]));
  const bytes = [...prepared.values()].reduce((total, each) => total + each, 0);
  return [{ name: "prepared weights", bytes }, ...sessions.flatMap(sessionParts)];
}

function sharedBytes(sessions: readonly SessionMemory[]): number {
  const largest = new Map<string, number>();
  let shared = 0;
  for (const { weights, memory } of sessions) {
    if (weights === undefined) continue;
    const before = largest.get(weights) ?? 0;
    shared += Math.min(before, memory.mappedWeightBytes);
    largest.set(weights, Math.max(before, memory.mappedWeightBytes));
  }
  return shared;
}

function sessionParts({ name, memory }: SessionMemory): MemoryPart[] {
  const { peakBytes, inputBytes, outputBytes, nodeCount } = memory;
  const { mappedWeightBytes, convertedWeightBytes } = memory;
  const graph = { name: `${name}: graph`, bytes: BYTES_PER_NODE * nodeCount };
  const data = { name: `${name}: inputs and outputs`, bytes: inputBytes + outputBytes };
  const activations = {
    name: `${name}: activations`,
    bytes: ALLOCATOR_FACTOR * peakBytes + ALLOCATOR_SLACK_BYTES,
  };
  const mapped = { name: `${name}: weights in their file`, bytes: mappedWeightBytes };
  const folded = { name: `${name}: converted weights`, bytes: FOLDING_FACTOR * convertedWeightBytes };
  return [graph, data, folded, mapped, activations];
}

function totalOf(parts: readonly MemoryPart[]): number {
  return parts.reduce((sum, { bytes }) => sum + bytes, 0);
}
