import { expect, test } from "vitest";
import { randomMatrix, relativeDifference } from "../../test/helpers/matrix.js";
import { decodeToFloat32, encodeFromFloat32 } from "../safetensors/index.js";
import { lqDecomposition } from "./householder.js";
import { loadNumbers, storeHalves, workspace } from "./kernels.js";
import { HalfFloats, transposedHalves } from "./matrix.js";
import { productSvd } from "./product-svd.js";
import { combineRowsToFloat32, combineRowsToHalves, gramMatrix } from "./strips.js";

const EVERY_CODE = Uint16Array.from({ length: 1 << 16 }, (_, code) => code);
const decode = (codes: Uint16Array) => decodeToFloat32(new Uint8Array(codes.buffer), "F16");
const encode = (values: Float32Array) => new Uint16Array(encodeFromFloat32(values, "F16").buffer);

/** As the codecs of the file format do it, which are tested against other implementations. */
test("every code is the number that it is in a file", () => {
  const memory = workspace(3 << 16);
  loadNumbers(new HalfFloats(EVERY_CODE), 0, 1 << 16, 0, 2 << 16);
  expect(Float32Array.from(memory.subarray(0, 1 << 16))).toEqual(decode(EVERY_CODE));
});

test("every number is rounded as in a file: exact ones, ties, and what is next to them", () => {
  const exact = decode(EVERY_CODE).filter((value) => Number.isFinite(value));
  const bits = new Uint32Array(exact.buffer);
  const near = (offset: number) => new Float32Array(bits.map((word) => word + offset).buffer);
  // Half a unit of the last place is 2^12 of float32's for normal numbers.
  for (const offset of [0, 1, 0xfff, 0x1000, 0x1001, 0x1fff]) {
    const values = near(offset);
    const memory = workspace(3 * values.length);
    memory.set(values);
    const codes = new Uint16Array(values.length);
    storeHalves(codes, 0, values.length, 0, 2 * values.length);
    expect(codes).toEqual(encode(values));
  }
});

test("subnormal numbers, overflow and what is not finite", () => {
  const values = Float32Array.of(
    ...[
      0,
      -0,
      2 ** -24,
      2 ** -25,
      2 ** -25 * 1.0001,
      3 * 2 ** -25,
      -(2 ** -14),
      2 ** -14 - 2 ** -25,
      1e-30,
      -1e-40,
    ],
    ...[65504, 65519.99, 65520, -65520, 1e30, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
  );
  const memory = workspace(64);
  memory.set(values);
  const codes = new Uint16Array(values.length);
  storeHalves(codes, 0, values.length, 0, 40);
  expect([...codes]).toEqual([...encode(values)]);
  memory.set([Number.NaN]);
  storeHalves(codes, 0, 1, 0, 40);
  expect(Number.isNaN(decode(codes.slice(0, 1))[0]!)).toBe(true);
});

const halves = (rows: number, columns: number, seed: number) =>
  new HalfFloats(encode(Float32Array.from(randomMatrix(rows, columns, seed))));

test.each([
  [1, 1],
  [3, 5],
  [7, 257],
  [130, 300],
])("a matrix of %i x %i gives what its numbers give", (rows, columns) => {
  const x = halves(rows, columns, 1);
  const numbers = decode(x.codes);
  expect(gramMatrix(x, rows)).toEqual(gramMatrix(numbers, rows));
  expect(lqDecomposition(x, rows, true)).toEqual(lqDecomposition(numbers, rows, true));
  const coefficients = randomMatrix(5, rows, 2);
  expect(combineRowsToHalves(coefficients, 5, x, rows).codes).toEqual(
    encode(combineRowsToFloat32(coefficients, 5, numbers, rows)),
  );
  expect(transposedHalves(transposedHalves(x.codes, rows, columns), columns, rows)).toEqual(x.codes);
});

test("a truncation in half precision is the rounded one in float32", () => {
  const [rank, inputs, outputs] = [8, 40, 30];
  const [down, upT] = [halves(rank, inputs, 1), halves(rank, outputs, 2)];
  const expected = productSvd({ down: decode(down.codes), upT: decode(upT.codes) }, rank).truncate(3);
  const result = productSvd({ down, upT }, rank).truncateToHalves(3);
  expect(result.down).toEqual(encode(expected.down));
  expect(transposedHalves(result.up, outputs, 3)).toEqual(encode(expected.upT));
  expect(relativeDifference(decode(result.down), expected.down)).toBeLessThan(1e-3);
});
