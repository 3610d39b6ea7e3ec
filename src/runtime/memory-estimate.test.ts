import { describe, expect, test } from "vitest";
import type { ActivationMemory } from "../graph/memory.js";
import { estimateRunBytes } from "./memory-estimate.js";

const MB = 1e6;
const memory: ActivationMemory = {
  peakBytes: 100 * MB,
  inputBytes: MB,
  outputBytes: MB,
  weightBytes: 50 * MB,
  mappedWeightBytes: 50 * MB,
  convertedWeightBytes: 0,
  preparedWeightBytes: 0,
  nodeCount: 1000,
};
const lean = (name: string, changes: Partial<ActivationMemory> = {}) => ({
  name,
  mode: "lean" as const,
  memory: { ...memory, ...changes },
});
const total = (...phases: Parameters<typeof estimateRunBytes>[0]["phases"]) =>
  estimateRunBytes({ phases }).totalBytes;

describe("estimateRunBytes", () => {
  test("is the sum of its parts, each with a name", () => {
    const { totalBytes, parts } = estimateRunBytes({ phases: [[lean("step")]], hostBytes: 7 * MB });
    expect(totalBytes).toBe(parts.reduce((sum, { bytes }) => sum + bytes, 0));
    expect(parts.map(({ name }) => name)).toEqual([
      "process",
      "data beside the sessions",
      "step: graph",
      "step: inputs and outputs",
      "step: weights in their file",
      "step: activations",
    ]);
    expect(parts).toContainEqual({ name: "data beside the sessions", bytes: 7 * MB });
    expect(parts).toContainEqual({ name: "step: weights in their file", bytes: 50 * MB });
  });

  test("adds the sessions of a phase, and takes the phase that needs most", () => {
    const [small, large] = [lean("small"), lean("large", { peakBytes: 500 * MB })];
    const nothing = total();
    expect(total([small, large]) - nothing).toBeCloseTo(total([small]) + total([large]) - 2 * nothing, 0);
    expect(total([small], [large])).toBe(total([large]));
    expect(total([large], [small])).toBe(total([large]));
    expect(estimateRunBytes({ phases: [[small], [large]] }).parts.at(-1)!.name).toBe("large: activations");
  });

  test("counts what a fast session prepares, and its weights where preparing takes more than running", () => {
    const fast = (changes: Partial<ActivationMemory>) => ({
      ...lean("step", changes),
      mode: "fast" as const,
    });
    const prepared = { mappedWeightBytes: 0, convertedWeightBytes: 200 * MB, preparedWeightBytes: 300 * MB };
    const part = (session: ReturnType<typeof fast>, name: string) =>
      estimateRunBytes({ phases: [[session]] }).parts.find((p) => p.name === `step: ${name}`)?.bytes;
    expect(part(fast(prepared), "prepared weights")).toBe(500 * MB);
    expect(part(fast(prepared), "weights being prepared")).toBeUndefined();
    expect(part(fast(prepared), "activations")).toBeGreaterThan(100 * MB);
    const heavy = fast({ ...prepared, weightBytes: 900 * MB });
    expect(part(heavy, "weights being prepared")).toBe(900 * MB);
    expect(part(heavy, "activations")).toBeUndefined();
  });
});
