import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const PROGRAM = fileURLToPath(new URL("../helpers/measure-training-step.mjs", import.meta.url));
const MODEL = fileURLToPath(new URL("../../fixtures/sd1-tiny.safetensors", import.meta.url));

/** A process of its own: memory that an earlier session gave back would be taken again, and not be seen. */
function measure(mode: string, checkpointing: boolean): { estimatedBytes: number; peakBytes: number } {
  const args = [PROGRAM, MODEL, mode, String(checkpointing)];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
}

// The constants of the estimate were measured on Linux.
describe.skipIf(process.platform !== "linux")("a process needs what was estimated for its session", () => {
  test.each([
    { mode: "lean", checkpointing: false },
    { mode: "lean", checkpointing: true },
    { mode: "fast", checkpointing: false },
  ])("$mode, gradient checkpointing: $checkpointing", { timeout: 300_000 }, ({ mode, checkpointing }) => {
    const { estimatedBytes, peakBytes } = measure(mode, checkpointing);
    expect(estimatedBytes / peakBytes).toBeGreaterThan(0.7);
    expect(estimatedBytes / peakBytes).toBeLessThan(1.3);
  });
});
