import { writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { tempFolder } from "../../../test/helpers/temp-folder.js";
import type { WeightRecipe } from "../../graph/onnx/weight-recipe.js";
import { encodeFromFloat32 } from "../../safetensors/index.js";
import { combineTaps } from "./combine-taps.js";
import { prepareTogether } from "./prepare-weight.js";
import { prepareWeights } from "./prepare-weights.js";
import { transposed } from "./transposed.js";

const ascending = (count: number) => Float32Array.from({ length: count }, (_, index) => index);

/** Element by element, from the definition. */
function referenceTranspose(values: Float32Array, shape: readonly number[], permutation: readonly number[]) {
  const lengths = permutation.map((axis) => shape[axis]!);
  const indexOf = (position: readonly number[], of: readonly number[]) =>
    position.reduce((index, coordinate, axis) => index * of[axis]! + coordinate, 0);
  const result = new Float32Array(values.length);
  for (let to = 0; to < result.length; to++) {
    const position: number[] = [];
    for (let axis = lengths.length - 1, rest = to; axis >= 0; axis--) {
      position.unshift(rest % lengths[axis]!);
      rest = Math.floor(rest / lengths[axis]!);
    }
    const source = shape.map((_, axis) => position[permutation.indexOf(axis)]!);
    result[to] = values[indexOf(source, shape)]!;
  }
  return result;
}

describe("transposed", () => {
  const cases = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 4 }).chain((shape) =>
    fc.record({
      shape: fc.constant(shape),
      permutation: fc.shuffledSubarray([...shape.keys()], { minLength: shape.length }),
    }),
  );

  test("has its axes in the order asked for", () => {
    fc.assert(
      fc.property(cases, ({ shape, permutation }) => {
        const values = ascending(shape.reduce((product, length) => product * length, 1));
        expect(transposed(values, shape, permutation)).toEqual(
          referenceTranspose(values, shape, permutation),
        );
      }),
    );
  });

  test.each([
    { shape: [37, 50], permutation: [1, 0] },
    { shape: [20, 35, 3, 3], permutation: [1, 0, 2, 3] },
    { shape: [20, 35, 5], permutation: [1, 0, 2] },
  ])("past the squares that are copied at once: $shape by $permutation", ({ shape, permutation }) => {
    const values = ascending(shape.reduce((product, length) => product * length, 1));
    expect(transposed(values, shape, permutation)).toEqual(referenceTranspose(values, shape, permutation));
  });
});

test("combineTaps sums up the taps of every kernel with the weights of every place", () => {
  const kernels = Float32Array.from({ length: 600 * 9 }, (_, index) => (index * 7919) % 101);
  const matrix = [
    [1, 0, 0, 0, 0, 0, 0, 0, 0],
    [1, 2, 3, 4, 5, 6, 7, 8, 9],
  ];
  const combined = combineTaps(kernels, matrix);
  expect(combined).toHaveLength(2 * 600);
  for (const kernel of [0, 1, 511, 512, 599]) {
    const taps = [...kernels.subarray(9 * kernel, 9 * kernel + 9)];
    expect(combined[kernel]).toBe(taps[0]);
    expect(combined[600 + kernel]).toBe(taps.reduce((sum, tap, index) => sum + tap * (index + 1), 0));
  }
});

describe("recipes", () => {
  let filePath: string;
  const values = ascending(12);
  const read = (dtype: "float32" | "float16" | "bfloat16", offsetBytes: number) =>
    ({ step: "read", filePath, offsetBytes, dtype, shape: [3, 4] }) as const;

  beforeAll(async () => {
    filePath = join(await tempFolder(), "weights.bin");
    const parts = (["F32", "F16", "BF16"] as const).map((dtype) => encodeFromFloat32(values, dtype));
    writeFileSync(filePath, Buffer.concat(parts));
  });

  test("read numbers of every type of weights, at their place", async () => {
    for (const [dtype, offsetBytes] of [
      ["float32", 0],
      ["float16", 48],
      ["bfloat16", 72],
    ] as const) {
      expect(await prepareTogether([read(dtype, offsetBytes)])).toEqual([values]);
    }
  });

  test("that begin with the same numbers share the reading of them, not the result", async () => {
    const whole = read("float16", 48);
    const turned: WeightRecipe = { step: "transpose", of: whole, permutation: [1, 0], shape: [4, 3] };
    const results = await prepareWeights([whole, turned, { ...whole, shape: [12] }, read("float32", 0)]);
    expect(results).toEqual([values, transposed(values, [3, 4], [1, 0]), values, values]);
    expect(new Set(results.map(({ buffer }) => buffer)).size).toBe(4);
  });

  test("a file that ends too early is an error", async () => {
    await expect(prepareWeights([read("float32", 72)])).rejects.toMatchObject({ code: "E_READ" });
  });
});
