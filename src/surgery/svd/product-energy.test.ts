import { describe, expect, it, test } from "vitest";
import { randomValues } from "../../../test/helpers/random-adapter.js";
import { prefixProducts, projectedEnergies } from "./product-energy.js";

/** `up[:, :b] · down[:b]` */
function product(down: Float32Array, upT: Float32Array, rank: number, b: number): Float64Array {
  const inputs = down.length / rank;
  const outputs = upT.length / rank;
  const result = new Float64Array(inputs * outputs);
  for (let o = 0; o < outputs; o++) {
    for (let i = 0; i < inputs; i++) {
      for (let r = 0; r < b; r++) result[o * inputs + i]! += upT[r * outputs + o]! * down[r * inputs + i]!;
    }
  }
  return result;
}

const dot = (a: Float64Array, b: Float64Array) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);

describe("prefixes without forming the product", () => {
  it.each([
    [1, 5, 3],
    [2, 7, 9],
    [3, 513, 4],
    [4, 4, 4],
    [7, 1100, 30],
    [16, 24, 80],
  ])("rank %i, %i inputs, %i outputs", (rank, inputs, outputs) => {
    const down = randomValues(rank * inputs, 1);
    const upT = randomValues(rank * outputs, 2);
    const { energies, overlaps } = prefixProducts({ down, upT }, rank);
    const whole = product(down, upT, rank, rank);
    const tolerance = 1e-12 * Math.max(1, dot(whole, whole));
    for (let b = 1; b <= rank; b++) {
      const prefix = product(down, upT, rank, b);
      expect(Math.abs(energies[b - 1]! - dot(prefix, prefix))).toBeLessThan(tolerance);
      expect(Math.abs(overlaps[b - 1]! - dot(prefix, whole))).toBeLessThan(tolerance);
    }
  });

  it("of a fresh adapter (up is zero) are zero", () => {
    const products = prefixProducts({ down: randomValues(12, 1), upT: new Float32Array(8) }, 4);
    expect([...products.energies]).toEqual([0, 0, 0, 0]);
    expect([...projectedEnergies(products)]).toEqual([0, 0, 0, 0]);
  });

  it("of factors that are not finite are not finite", () => {
    const down = Float32Array.of(1, Number.NaN, 3);
    expect([...prefixProducts({ down, upT: Float32Array.of(1) }, 1).energies]).toEqual([Number.NaN]);
  });
});

describe("what a prefix holds of the whole", () => {
  const projected = (down: number[], upT: number[], rank: number) => [
    ...projectedEnergies(
      prefixProducts({ down: Float32Array.from(down), upT: Float32Array.from(upT) }, rank),
    ),
  ];

  test("orthogonal components: their energies", () => {
    expect(projected([1, 0, 0, 1], [3, 0, 0, 2], 2)).toEqual([9, 13]);
  });

  test("components that repeat the first one: all of it, at another strength", () => {
    expect(projected([1, 2, 1, 2, 1, 2], [1, 1, 1, 1, 1, 1], 3)).toEqual([90, 90, 90]);
  });

  test("a first component that the second takes back: nothing of it", () => {
    expect(projected([1, 0, -1, 1], [1, 1], 2)).toEqual([0, 1]);
  });
});
