import { describe, expect, test } from "vitest";
import {
  formulaMatrix,
  norm,
  productOf,
  randomMatrix,
  relativeDifference,
  tailNorm,
  transpose,
} from "../../test/helpers/matrix.js";
import { decodeToFloat32 } from "../safetensors/index.js";
import { workspace } from "./kernels.js";
import { productNorm, productSingularValues, productSvd } from "./product-svd.js";

const RANK = 16;

/** Factors as they are, and with what makes either of them ill conditioned. */
function factors(inputs: number, outputs: number) {
  const down = Float32Array.from(randomMatrix(RANK, inputs, 1));
  const upT = Float32Array.from(randomMatrix(RANK, outputs, 2));
  const repeated = (x: Float32Array) => x.slice().copyWithin(x.length / 2, 0, x.length / 2);
  const graded = (x: Float32Array, step: number) =>
    x.map((value, k) => value * 10 ** (-step * Math.floor(k / (x.length / RANK))));
  return {
    "well conditioned": { down, upT },
    "up with rows that repeat": { down, upT: repeated(upT) },
    "down with rows that repeat": { down: repeated(down), upT },
    "both with rows that repeat": { down: repeated(down), upT: repeated(upT) },
    "up over 15 orders of magnitude": { down, upT: graded(upT, 1) },
    "both over 8 orders of magnitude": { down: graded(down, 0.5), upT: graded(upT, 0.5) },
    "up of zeros": { down, upT: new Float32Array(upT.length) },
  };
}

describe.each([
  [100, 60],
  [60, 300],
  [10, 60],
  [60, 10],
  [10, 12],
])("rank 16, %i inputs, %i outputs", (inputs, outputs) => {
  describe.each(Object.entries(factors(inputs, outputs)))("%s", (_, given) => {
    const product = productOf(given, RANK);
    const svd = productSvd(given, RANK);
    const { singularValues } = svd;
    const total = norm(product);

    test("the singular values have the product's norm", () => {
      expect(singularValues).toHaveLength(RANK);
      expect([...singularValues]).toEqual([...singularValues].sort((a, b) => b - a));
      expect(Math.abs(norm(singularValues) - total)).toBeLessThanOrEqual(1e-13 * total);
    });

    // 1e-7: the truncated factors are float32.
    test.each([1, 2, 7, RANK])("cut off at %i, what is lost is the tail of the singular values", (rank) => {
      const truncated = svd.truncate(rank);
      expect(truncated.down).toHaveLength(rank * inputs);
      expect(truncated.upT).toHaveLength(rank * outputs);
      const rest = productOf(truncated, rank).map((value, k) => product[k]! - value);
      expect(Math.abs(norm(rest) - tailNorm(singularValues, rank))).toBeLessThanOrEqual(1e-7 * total);
    });

    // 1e-7: the truncated factors are float32.
    test.each([1, 3, 7])("decomposed for %i components only, they are as good", (kept) => {
      const leading = productSvd(given, RANK, kept);
      const difference = leading.singularValues.map((value, j) => value - singularValues[j]!);
      expect(norm(difference)).toBeLessThanOrEqual(1e-13 * total);
      const truncated = leading.truncate(kept);
      const rest = productOf(truncated, kept).map((value, k) => product[k]! - value);
      expect(Math.abs(norm(rest) - tailNorm(singularValues, kept))).toBeLessThanOrEqual(1e-7 * total);
    });

    /** Unit roundoff, and the smallest subnormal number. */
    const FORMATS = {
      F16: [2 ** -11, 2 ** -24],
      BF16: [2 ** -8, 2 ** -133],
      F32: [2 ** -24, 2 ** -149],
    } as const;
    test.each(Object.keys(FORMATS) as (keyof typeof FORMATS)[])(
      "in %s they are rounded, no more",
      (format) => {
        const [roundoff, smallest] = FORMATS[format];
        for (const kept of [3, RANK]) {
          const stored = productSvd(given, RANK, kept).truncateTo(format, kept);
          const exact = productSvd(given, RANK, kept).truncate(kept);
          const [down, up] = [stored.down, stored.up].map((bytes) => decodeToFloat32(bytes, format));
          const upT = Float32Array.from(transpose(up!, outputs));
          for (const [x, y] of [
            [down!, exact.down],
            [upT, exact.upT],
          ] as const) {
            const length = x.length / kept;
            for (let j = 0; j < kept; j++) {
              const [row, exactRow] = [x, y].map((all) => all.subarray(j * length, (j + 1) * length));
              // Half of a unit in every number, and what float32 adds: a hundredth of it here.
              const bound = roundoff * 1.01 * norm(exactRow!) + Math.sqrt(length) * smallest;
              expect(norm(row!.map((value, k) => value - exactRow![k]!))).toBeLessThanOrEqual(bound);
            }
          }
        }
      },
    );

    test("both factors get the square root of each value", () => {
      const { down, upT } = svd.truncate(RANK);
      for (let j = 0; j < RANK; j++) {
        const root = Math.sqrt(singularValues[j]!);
        const tolerance = 1e-6 * Math.sqrt(singularValues[0]!);
        for (const x of [down, upT]) {
          const length = x.length / RANK;
          expect(Math.abs(norm(x.subarray(j * length, (j + 1) * length)) - root)).toBeLessThanOrEqual(
            tolerance,
          );
        }
      }
    });

    test("singular vectors are orthonormal", () => {
      // Of values far below the largest, the vectors are known to fewer digits.
      const count = singularValues.filter((value) => value > 1e-5 * singularValues[0]!).length;
      if (count === 0) return expect(total).toBe(0);
      const { left, right } = svd.vectorProducts(count, svd, count);
      for (const products of [left, right]) {
        for (let j = 0; j < count; j++) products[j * count + j]! -= 1;
        expect(norm(products)).toBeLessThan(1e-8);
      }
    });

    test("the values alone are the same, and so is the norm", () => {
      const alone = productSingularValues(given, RANK);
      expect(norm(alone.map((value, j) => value - singularValues[j]!))).toBeLessThanOrEqual(1e-13 * total);
      expect(Math.abs(productNorm(given, RANK) - total)).toBeLessThanOrEqual(1e-13 * total);
    });
  });
});

test.each([
  [16, 100, 60],
  [7, 257, 30],
  [5, 13, 270],
])(
  "rank %i, %i inputs, %i outputs: what the workspace held before does not matter",
  (rank, inputs, outputs) => {
    const down = Float32Array.from(randomMatrix(rank, inputs, 1));
    const upT = Float32Array.from(randomMatrix(rank, outputs, 2));
    const results = [0, 1, Number.NaN, Number.POSITIVE_INFINITY].map((value) => {
      const results = [2, rank].map((kept) => {
        workspace(1 << 18).fill(value);
        const svd = productSvd({ down, upT }, rank, kept);
        workspace(1 << 18).fill(value);
        return [svd.singularValues, svd.truncateTo("F16", kept), svd.truncateTo("F32", kept)];
      });
      workspace(1 << 18).fill(value);
      return [...results, productSingularValues({ down, upT }, rank)];
    });
    for (const result of results) expect(result).toEqual(results[0]);
  },
);

test("no more components can be used than it was decomposed for", () => {
  const svd = productSvd(factors(100, 60)["well conditioned"], RANK, 4);
  expect(svd.truncate(4).down).toHaveLength(400);
  expect(() => svd.truncate(5)).toThrow("5 components of a product, which was decomposed for fewer");
});

test("the numerical rank counts what is not rounding", () => {
  const { down, upT } = factors(100, 60)["both with rows that repeat"];
  expect(productSvd({ down, upT }, RANK).numericalRank).toBe(RANK / 2);
  expect(productSvd({ down, upT: new Float32Array(upT.length) }, RANK).numericalRank).toBe(0);
  const { down: short } = factors(10, 60)["well conditioned"];
  expect(productSvd({ down: short, upT }, RANK).numericalRank).toBe(RANK / 2);
});

// torch.linalg.svdvals(upT.T @ down) of the same matrices in float64 (PyTorch 1.13, LAPACK's gesdd).
test("PyTorch finds the same values in the product", () => {
  const torch = [
    2.962898306709361, 2.35222959470548, 1.952836514055013, 1.310943040481082, 0.9115960264199197,
    0.7927567978238701,
  ];
  const values = productSingularValues({ down: formulaMatrix(60, 3), upT: formulaMatrix(54, 8) }, 6);
  for (const [j, value] of torch.entries()) expect(values[j]).toBeCloseTo(value, 13);
});

test("dot products of the vectors of two products are those of the vectors", () => {
  const a = factors(30, 20)["well conditioned"];
  const b = factors(30, 20)["down with rows that repeat"];
  const [svdA, svdB] = [productSvd(a, RANK), productSvd(b, RANK)];
  const [countA, countB] = [svdA.numericalRank, svdB.numericalRank];
  const { left, right } = svdA.vectorProducts(countA, svdB, countB);
  // Σᵢⱼ σᵢ τⱼ ⟨uᵢ, xⱼ⟩ ⟨vᵢ, yⱼ⟩ is the inner product of the products.
  const sum = left.reduce((total, value, k) => {
    const [i, j] = [Math.floor(k / countB), k % countB];
    return total + svdA.singularValues[i]! * svdB.singularValues[j]! * value * right[k]!;
  }, 0);
  const [x, y] = [productOf(a, RANK), productOf(b, RANK)];
  const inner = x.reduce((total, value, k) => total + value * y[k]!, 0);
  expect(sum / inner).toBeCloseTo(1, 10);
  expect([left.length, right.length]).toEqual([countA * countB, countA * countB]);
});

test("a norm keeps its digits where the components cancel", () => {
  const [inputs, outputs, rank] = [40, 30, 4];
  const down = randomMatrix(rank, inputs, 5);
  const upT = randomMatrix(rank, outputs, 6);
  const moved = down.map((value, k) => (k < inputs ? value * (1 + 1e-9) : value));
  // The stacked factors' product is up · down - up · moved: only the first component is left, times -1e-9.
  const difference = {
    down: Float64Array.of(...down, ...moved),
    upT: Float64Array.of(...upT, ...upT.map((value) => -value)),
  };
  const expected = 1e-9 * norm(down.subarray(0, inputs)) * norm(upT.subarray(0, outputs));
  expect(productNorm(difference, 2 * rank) / expected).toBeCloseTo(1, 5);
});

test("a relative difference of test helpers is no tautology", () => {
  expect(relativeDifference(Float64Array.of(3, 4), Float64Array.of(0, 5))).toBeCloseTo(Math.sqrt(10) / 5, 15);
});
