/** Memory of this process, and the most it took since a moment of one's choice. */

import { readFileSync, writeFileSync } from "node:fs";
import { peakRssBytes } from "../src/runtime/peak-memory.js";

export interface ResidentMemory {
  readonly peakBytes: number;
  readonly residentBytes: number;
  /** Part of `residentBytes` that lies in files, which the system can take back at any time. Null: not known. */
  readonly mappedFileBytes: number | null;
}

export function residentMemory(): ResidentMemory {
  const peak = statusBytes("VmHWM");
  return {
    peakBytes: peak ?? peakRssBytes(),
    residentBytes: process.memoryUsage.rss(),
    mappedFileBytes: statusBytes("RssFile"),
  };
}

/** Starts a new peak, where the system can (Linux). Read the old one before. */
export function resetPeak(): void {
  try {
    writeFileSync("/proc/self/clear_refs", "5");
  } catch {
    // The peak then goes on from the old one.
  }
}

/** A line of the kernel's account of this process, `VmHWM:   7120344 kB`. */
function statusBytes(field: string): number | null {
  try {
    const line = new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(readFileSync("/proc/self/status", "utf8"));
    return line === null ? null : Number(line[1]) * 1024;
  } catch {
    return null;
  }
}
