import { join } from "node:path";
import { expect, test } from "vitest";
import { randomValues } from "../../../test/helpers/random-adapter.js";
import { tempFolder } from "../../../test/helpers/temp-folder.js";
import type { WeightRef } from "../../models/checkpoint/index.js";
import { encodeFromFloat32, readHeader, writeSafetensors } from "../../safetensors/index.js";
import { measureDifferences, readDifference, WeightReader } from "./weights.js";

test("a weight that is read in several pieces, in two types", async () => {
  const folder = await tempFolder();
  const shape = [1500, 1111];
  const base = randomValues(1500 * 1111, 1);
  const tuned = base.slice();
  // In the first piece, across the border of the second (at 2^20), and at the end.
  for (const [index, by] of [
    [3, 0.5],
    [2 ** 20 - 1, -0.25],
    [2 ** 20, 2],
    [tuned.length - 1, 1],
  ] as const) {
    base[index] = 0;
    tuned[index] = by;
  }
  const write = async (name: string, values: Float32Array, dtype: "F32" | "BF16"): Promise<WeightRef> => {
    const filePath = join(folder, name);
    await writeSafetensors(filePath, [
      { name: "w", dtype, shape, data: () => encodeFromFloat32(values, dtype) },
    ]);
    const { offsetBytes, sizeBytes } = (await readHeader(filePath)).tensors.get("w")!;
    return { filePath, dtype, offsetBytes, sizeBytes, shape };
  };
  const pair = (b: WeightRef, t: WeightRef) => ({ part: "unet" as const, name: "w", base: b, tuned: t });
  const baseWeight = await write("base", base, "F32");
  const tunedWeight = await write("tuned", tuned, "F32");
  const reader = new WeightReader();
  try {
    const exact = pair(baseWeight, tunedWeight);
    const [difference] = await measureDifferences(reader, [exact]);
    expect(difference!.norm).toBeCloseTo(Math.hypot(0.5, 0.25, 2, 1), 12);
    expect(difference).toMatchObject({ maxAbs: 2, roundingNorm: 0 });
    expect(difference!.baseNorm).toBeCloseTo(
      Math.sqrt(base.reduce((sum, value) => sum + value * value, 0)),
      8,
    );
    const values = await readDifference(reader, exact);
    expect(Array.from(values).flatMap((value, i) => (value === 0 ? [] : [[i, value]]))).toEqual([
      [3, 0.5],
      [2 ** 20 - 1, -0.25],
      [2 ** 20, 2],
      [tuned.length - 1, 1],
    ]);
    // Rounding alone stays below what is said that it can make.
    const rounded = pair(baseWeight, await write("rounded", base, "BF16"));
    const [rounding] = await measureDifferences(reader, [rounded]);
    expect(rounding!.norm).toBeGreaterThan(0);
    expect(rounding!.norm).toBeLessThan(rounding!.roundingNorm);
  } finally {
    await reader.close();
  }
});
