/** Resident memory of this process, on Linux. */

import { readFileSync, writeFileSync } from "node:fs";

/** Bytes now, and the most since the last {@link forgetPeak}. */
export function residentBytes(): { now: number; peak: number } {
  const status = readFileSync("/proc/self/status", "utf8");
  const kilobytes = (name: string) => Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)![1]);
  return { now: 1024 * kilobytes("VmRSS"), peak: 1024 * kilobytes("VmHWM") };
}

/** Begins a new peak at what is resident now (proc_pid_clear_refs(5)). */
export function forgetPeak(): void {
  writeFileSync("/proc/self/clear_refs", "5");
}
