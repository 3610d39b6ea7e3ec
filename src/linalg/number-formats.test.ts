import { describe, expect, test } from "vitest";
import { randomMatrix } from "../../test/helpers/matrix.js";
import { decodeToFloat32, encodeFromFloat32 } from "../safetensors/index.js";
import { lqDecomposition } from "./householder.js";
import { allot, conversion, numbersOf, workspaceBytes } from "./kernels.js";
import { StoredValues } from "./matrix.js";
import type { NumberFormat } from "./number-formats.js";
import { DOUBLE, type ElementType, SINGLE } from "./product-kernels.js";
import { StripSource, storedRoom } from "./strip-source.js";
import { combineRows, combineRowsTo, gramMatrix } from "./strips.js";

const TYPES: [string, ElementType][] = [
  ["float64", DOUBLE],
  ["float32", SINGLE],
];
const HALF_FORMATS = ["F16", "BF16"] as const;
const FORMATS = ["F16", "BF16", "F32"] as const;
const EVERY_CODE = Uint16Array.from({ length: 1 << 16 }, (_, code) => code);

/** As the codecs of the file format do it, which are tested against other implementations. */
const decode = ({ bytes, format }: StoredValues) => decodeToFloat32(bytes, format);
const encode = (values: Float32Array, format: NumberFormat) =>
  new StoredValues(encodeFromFloat32(values, format), format);

/** `toEqual` on as many numbers takes seconds. */
function expectSame(actual: Uint8Array | Float32Array, expected: Uint8Array | Float32Array): void {
  const bytes = (values: Uint8Array | Float32Array) =>
    // Which NaN it is does not matter.
    Buffer.from(values.map((value) => (Number.isNaN(value) ? Number.NaN : value)).buffer);
  expect(bytes(actual).equals(bytes(expected))).toBe(true);
}

function expanded(x: StoredValues, type: ElementType): Float32Array {
  const [at, room] = allot(x.length * type.bytes, storedRoom(x, 1));
  new StripSource(x, 1, room).load(0, x.length, at, x.length, type);
  const first = at / type.bytes;
  return Float32Array.from(numbersOf(type).subarray(first, first + x.length));
}

/** @param values - a multiple of four */
function compressed(values: Float32Array, format: NumberFormat, type: ElementType): StoredValues {
  const [at, target] = allot(values.length * type.bytes, values.length * 4);
  const spanBytes = values.length * type.bytes;
  numbersOf(type).set(values, at / type.bytes);
  conversion("compressRows", format, type)(at, at + spanBytes, spanBytes, spanBytes, target, 0);
  const size = encode(values, format).bytes.length;
  return new StoredValues(workspaceBytes().slice(target, target + size), format);
}

describe.each(TYPES)("in %s", (_, type) => {
  describe.each(HALF_FORMATS)("%s", (format) => {
    const everyCode = new StoredValues(new Uint8Array(EVERY_CODE.buffer), format);

    test("every code is the number that it is in a file", () => {
      expectSame(expanded(everyCode, type), decode(everyCode));
    });

    test("every number is rounded as in a file: exact ones, ties, and what is next to them", () => {
      const exact = decode(everyCode).map((value) => (Number.isFinite(value) ? value : 0));
      const bits = new Uint32Array(exact.buffer);
      // Half a unit of the last place is 2^12 of float32's for normal numbers of F16, 2^15 for BF16.
      for (const offset of [0, 1, 0xfff, 0x1000, 0x1001, 0x1fff, 0x7fff, 0x8000, 0x8001, 0xffff]) {
        const values = new Float32Array(bits.map((word) => word + offset).buffer);
        expectSame(compressed(values, format, type).bytes, encode(values, format).bytes);
      }
    });

    test("subnormal numbers, overflow and what is not finite", () => {
      const values = Float32Array.of(
        ...[0, -0, 2 ** -24, 2 ** -25, 2 ** -25 * 1.0001, 3 * 2 ** -25, -(2 ** -14), 2 ** -14 - 2 ** -25],
        ...[1e-30, -1e-40, 65504, 65519.99, 65520, -65520, 1e30, 3.4e38],
        ...[Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -3.4e38, 1],
      );
      expect(compressed(values, format, type).bytes).toEqual(encode(values, format).bytes);
      // All bits of a NaN's mantissa: rounding must not carry into the sign.
      const nans = new Float32Array(Uint32Array.of(0x7fc00000, 0x7f800001, 0x7fffffff, 0xffffffff).buffer);
      expect([...decode(compressed(nans, format, type))].every(Number.isNaN)).toBe(true);
    });
  });
});

describe.each(FORMATS)("%s", (format) => {
  const stored = (rows: number, columns: number, seed: number) =>
    encode(Float32Array.from(randomMatrix(rows, columns, seed)), format);
  /** The same matrix by columns. */
  const turned = (x: StoredValues, rows: number) => {
    const values = decode(x);
    const columns = values.length / rows;
    const columnMajor = values.map((_, k) => values[(k % rows) * columns + Math.floor(k / rows)]!);
    return new StoredValues(encode(columnMajor, format).bytes, format, true);
  };

  test.each([
    [1, 1],
    [3, 5],
    [4, 8],
    [7, 257],
    [130, 300],
  ])("a matrix of %i x %i gives what its numbers give, by rows and by columns", (rows, columns) => {
    const x = stored(rows, columns, 1);
    const numbers = Float64Array.from(decode(x));
    for (const count of [4, 5]) {
      const coefficients = randomMatrix(count, rows, 2);
      const product = combineRows(coefficients, count, numbers, rows);
      const expected = encode(Float32Array.from(product), format);
      for (const given of [x, turned(x, rows)]) {
        expect(gramMatrix(given, rows)).toEqual(gramMatrix(numbers, rows));
        expect(lqDecomposition(given, rows, true)).toEqual(lqDecomposition(numbers, rows, true));
        expect(combineRows(coefficients, count, given, rows)).toEqual(product);
        expect(combineRowsTo(format, coefficients, count, given, rows).bytes).toEqual(expected.bytes);
        const byColumns = combineRowsTo(format, coefficients, count, given, rows, { byColumns: true });
        expect(byColumns.bytes).toEqual(turned(expected, count).bytes);
      }
    }
  });
});
