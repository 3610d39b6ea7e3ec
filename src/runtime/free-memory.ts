import { freemem } from "node:os";

/** What may be allocated: within the limits of a container, too, where this Node tells them (20.13). */
export function freeMemoryBytes(): number {
  const { availableMemory } = process as { availableMemory?: () => number };
  return Math.min(freemem(), availableMemory?.() ?? Number.POSITIVE_INFINITY);
}
