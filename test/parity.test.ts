import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { compareWithGolden } from "../benchmarks/parity/compare.js";
import { TOLERANCES, WorstErrors } from "../benchmarks/parity/worst-errors.js";

/** The smaller of the two golden checkpoints. `npm run parity` compares both, in every mode and on every device. */
const golden = fileURLToPath(new URL("../../shared/golden/sd2-tiny", import.meta.url));

test.skipIf(!existsSync(golden))(
  "the engine answers what PyTorch answers",
  { timeout: 300_000 },
  async () => {
    const { passed, worst, skipped } = await compareWithGolden([golden], { device: "cpu", mode: "lean" });
    expect(worst.output.error).toBeLessThan(TOLERANCES.output);
    expect(worst.loss.error).toBeLessThan(TOLERANCES.loss);
    expect(worst.gradient.error).toBeLessThan(TOLERANCES.gradient);
    expect(passed).toBe(true);
    // Both sources answer all of it: nothing was left out but the VAE, which the diffusers folder does not have.
    expect(worst.gradient.compared).toBeGreaterThan(100);
    expect(skipped).toEqual([`${golden} diffusers vae`]);
  },
);

describe("WorstErrors", () => {
  test("a result that is not a number fails, whatever comes after it", () => {
    const errors = new WorstErrors();
    errors.add("output", "good", Float32Array.of(1), Float32Array.of(1));
    errors.add("output", "broken", Float32Array.of(Number.NaN), Float32Array.of(1));
    errors.add("output", "good again", Float32Array.of(1), Float32Array.of(1));
    expect(errors.worst.output).toMatchObject({ error: Number.NaN, at: "broken", compared: 3 });
    expect(errors.within(TOLERANCES)).toBe(false);
  });

  test("a result of another size fails", () => {
    const errors = new WorstErrors();
    errors.add("loss", "short", Float32Array.of(1), Float32Array.of(1, 1));
    expect(errors.within(TOLERANCES)).toBe(false);
  });
});
