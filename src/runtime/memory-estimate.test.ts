import { describe, expect, test } from "vitest";
import type { ActivationMemory } from "../graph/memory.js";
import { estimateRunBytes, sessionBytes } from "./memory-estimate.js";

const MB = 1e6;
const memory: ActivationMemory = {
  peakBytes: 100 * MB,
  inputBytes: MB,
  outputBytes: MB,
  mappedWeightBytes: 50 * MB,
  convertedWeightBytes: 0,
  preparedWeights: new Map(),
  nodeCount: 1000,
};
const session = (name: string, changes: Partial<ActivationMemory> = {}) => ({
  name,
  memory: { ...memory, ...changes },
});
const total = (...phases: Parameters<typeof estimateRunBytes>[0]["phases"]) =>
  estimateRunBytes({ phases }).totalBytes;

describe("estimateRunBytes", () => {
  test("is the sum of its parts, each with a name", () => {
    const { totalBytes, parts } = estimateRunBytes({ phases: [[session("step")]], hostBytes: 7 * MB });
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
    const [small, large] = [session("small"), session("large", { peakBytes: 500 * MB })];
    const nothing = total();
    expect(total([small, large]) - nothing).toBeCloseTo(total([small]) + total([large]) - 2 * nothing, 0);
    expect(total([small], [large])).toBe(total([large]));
    expect(total([large], [small])).toBe(total([large]));
    expect(estimateRunBytes({ phases: [[small], [large]] }).parts.at(-1)!.name).toBe("large: activations");
  });

  test("counts what a session converts of its weights, with what doing so wastes", () => {
    const converted = session("step", { mappedWeightBytes: 0, convertedWeightBytes: 200 * MB });
    const { parts } = estimateRunBytes({ phases: [[converted]] });
    const part = parts.find(({ name }) => name === "step: converted weights");
    expect(part!.bytes).toBeGreaterThan(200 * MB);
    expect(part!.bytes).toBeLessThan(240 * MB);
    expect(parts.find(({ name }) => name === "step: weights in their file")).toBeUndefined();
  });

  test("weights that several sessions map are counted for each, and told apart: memory has them once", () => {
    const shared = (name: string, mappedWeightBytes: number) => ({
      ...session(name, { mappedWeightBytes }),
      weights: "U-Net",
    });
    const sessions = [shared("a", 50 * MB), shared("b", 30 * MB), shared("c", 60 * MB), session("vae")];
    // 50, 30 and 60 MB of the same file are 60 MB.
    expect(estimateRunBytes({ phases: [sessions] }).sharedBytes).toBe(80 * MB);
    expect(estimateRunBytes({ phases: [[session("a")], [session("b")]] }).sharedBytes).toBe(0);
  });

  test("prepared weights are there once, whatever number of sessions read them", () => {
    const preparing = (name: string, ...keys: readonly string[]) =>
      session(name, { preparedWeights: new Map(keys.map((key) => [key, 100 * MB])) });
    const [step, loss] = [preparing("step", "w", "w transposed"), preparing("loss", "w")];
    const { parts } = estimateRunBytes({ phases: [[step, loss]] });
    expect(parts).toContainEqual({ name: "prepared weights", bytes: 200 * MB });
    // What one more session takes is what the others have not prepared.
    const plain = sessionBytes(session("plain"));
    expect(sessionBytes(step) - plain).toBeCloseTo(200 * MB, 0);
    expect(sessionBytes(step, new Set(["w"])) - plain).toBeCloseTo(100 * MB, 0);
    expect(sessionBytes(loss, step.memory.preparedWeights) - plain).toBeCloseTo(0, 0);
  });

  test("a session needs its parts, but for the weights that lie in the page cache anyway", () => {
    const nothing = total();
    expect(sessionBytes(session("step"))).toBeCloseTo(total([session("step")]) - nothing - 50 * MB, 0);
  });
});
