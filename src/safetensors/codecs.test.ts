import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeToFloat32, encodeFromFloat32, findNonFinite, WRITABLE_DTYPES } from "./codecs.js";
import { DTYPES, type Dtype } from "./dtype.js";

/** One 16-bit or 8-bit code as tensor bytes. */
function codeBytes(code: number, dtype: Dtype): Uint8Array {
  return DTYPES[dtype].bits === 8 ? Uint8Array.of(code) : Uint8Array.of(code & 0xff, code >>> 8);
}

function decodeCode(code: number, dtype: Dtype): number {
  return decodeToFloat32(codeBytes(code, dtype), dtype)[0]!;
}

function encodeValue(value: number, dtype: Dtype): number {
  const bytes = encodeFromFloat32(Float32Array.of(value), dtype);
  return bytes.length === 1 ? bytes[0]! : bytes[0]! | (bytes[1]! << 8);
}

describe("known codes", () => {
  // Written from the formats' definitions (IEEE 754, arXiv:2209.05433, arXiv:2206.02915, OCP MX 1.0).
  const cases: [Dtype, number, number][] = [
    ["F16", 0x3c00, 1],
    ["F16", 0xc000, -2],
    ["F16", 0x7bff, 65504],
    ["F16", 0x0400, 2 ** -14],
    ["F16", 0x03ff, 1023 * 2 ** -24],
    ["F16", 0x0001, 2 ** -24],
    ["F16", 0x8000, -0],
    ["F16", 0x7c00, Number.POSITIVE_INFINITY],
    ["F16", 0xfc00, Number.NEGATIVE_INFINITY],
    ["F16", 0x7e00, Number.NaN],
    ["BF16", 0x3f80, 1],
    ["BF16", 0x0001, 2 ** -133],
    ["BF16", 0x7f7f, (2 - 2 ** -7) * 2 ** 127],
    ["BF16", 0xff80, Number.NEGATIVE_INFINITY],
    ["BF16", 0x7fc0, Number.NaN],
    ["F8_E4M3", 0x38, 1],
    ["F8_E4M3", 0x7e, 448],
    ["F8_E4M3", 0x01, 2 ** -9],
    ["F8_E4M3", 0x7f, Number.NaN],
    ["F8_E5M2", 0x3c, 1],
    ["F8_E5M2", 0x7b, 57344],
    ["F8_E5M2", 0x01, 2 ** -16],
    ["F8_E5M2", 0x7c, Number.POSITIVE_INFINITY],
    ["F8_E5M2", 0x7f, Number.NaN],
    ["F8_E4M3FNUZ", 0x7f, 240],
    ["F8_E4M3FNUZ", 0x80, Number.NaN],
    ["F8_E5M2FNUZ", 0x7f, 57344],
    ["F8_E5M2FNUZ", 0x80, Number.NaN],
    ["F8_E8M0", 0x00, 2 ** -127],
    ["F8_E8M0", 0xfe, 2 ** 127],
    ["F8_E8M0", 0xff, Number.NaN],
  ];
  it.each(cases)("%s 0x%s is %s", (dtype, code, value) => {
    expect(decodeCode(code, dtype)).toBe(value);
    if (!Number.isNaN(value) && (WRITABLE_DTYPES as readonly string[]).includes(dtype)) {
      expect(encodeValue(value, dtype)).toBe(code);
    }
  });
});

describe.each(["F16", "BF16", "F8_E4M3", "F8_E5M2"] as const)("%s", (dtype) => {
  const codeCount = 2 ** DTYPES[dtype].bits;
  const allBytes = new Uint8Array(
    DTYPES[dtype].bits === 8
      ? Uint8Array.from({ length: codeCount }, (_, code) => code)
      : Uint16Array.from({ length: codeCount }, (_, code) => code).buffer,
  );

  it("brings every code back, except that all NaN become one", () => {
    const values = decodeToFloat32(allBytes, dtype);
    const back = encodeFromFloat32(values, dtype);
    const width = DTYPES[dtype].bits / 8;
    const changed = Array.from({ length: codeCount }, (_, code) => code).filter((code) =>
      codeBytes(code, dtype).some((byte, i) => byte !== back[code * width + i]),
    );
    expect(changed.every((code) => Number.isNaN(values[code]))).toBe(true);
    const again = decodeToFloat32(back, dtype);
    expect(again.every((value, code) => Object.is(value, values[code]))).toBe(true);
  });

  it("decodes short and long inputs alike", () => {
    const values = decodeToFloat32(allBytes, dtype);
    for (const code of [0, 1, 37, codeCount / 2, codeCount / 2 + 5, codeCount - 1]) {
      expect(decodeCode(code, dtype)).toBe(values[code]);
    }
  });

  it("rounds to the nearest code, on a tie to the even one", () => {
    const finite = Array.from({ length: codeCount / 2 }, (_, code) => code).filter((code) =>
      Number.isFinite(decodeCode(code, dtype)),
    );
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: finite.length - 2 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (code, part) => {
          const low = decodeCode(code, dtype);
          const high = decodeCode(code + 1, dtype);
          const value = Math.fround(low + part * (high - low));
          const distance = [value - low, high - value];
          const expected =
            distance[0] === distance[1] ? code + (code & 1) : distance[0]! < distance[1]! ? code : code + 1;
          expect(encodeValue(value, dtype)).toBe(expected);
          expect(encodeValue(-value, dtype)).toBe(expected + codeCount / 2);
        },
      ),
      {
        numRuns: 1000,
        examples: [
          [0, 0.5],
          [1, 0.5],
          [2, 0.5],
          [finite.length - 2, 0.5],
        ],
      },
    );
  });

  it("sends values beyond the range to infinity or NaN, and keeps NaN", () => {
    for (const value of [3.4e38 * 2, Number.POSITIVE_INFINITY]) {
      const code = encodeValue(value, dtype);
      expect(decodeCode(code, dtype)).toBe(dtype === "F8_E4M3" ? Number.NaN : Number.POSITIVE_INFINITY);
    }
    expect(decodeCode(encodeValue(Number.NaN, dtype), dtype)).toBe(Number.NaN);
    expect(encodeValue(-0, dtype)).toBe(codeCount / 2);
    expect(encodeValue(1e-45, dtype)).toBe(0);
  });
});

describe("the edge of the range", () => {
  it.each([
    ["F16", 65519, 65504],
    ["F16", 65520, Number.POSITIVE_INFINITY],
    ["F8_E4M3", 464, 448],
    ["F8_E4M3", 464.1, Number.NaN],
    ["F8_E5M2", 61439, 57344],
    ["F8_E5M2", 61440, Number.POSITIVE_INFINITY],
  ] as const)("%s: %s becomes %s", (dtype, value, expected) => {
    expect(decodeCode(encodeValue(value, dtype), dtype)).toBe(expected);
  });
});

describe("wide and integer types", () => {
  it("rounds F64 to the nearest float32", () => {
    const bytes = new Uint8Array(Float64Array.of(0.1, 1 + 2 ** -24, 1 + 3 * 2 ** -24).buffer);
    expect([...decodeToFloat32(bytes, "F64")]).toEqual([Math.fround(0.1), 1, 1 + 2 ** -22]);
  });

  it("writes F64 exactly", () => {
    const bytes = encodeFromFloat32(Float32Array.of(0.5, -3), "F64");
    expect(bytes).toEqual(new Uint8Array(Float64Array.of(0.5, -3).buffer));
  });

  it.each([
    ["I64", new BigInt64Array([-5n, 7n]), [-5, 7]],
    ["U64", new BigUint64Array([5n]), [5]],
    ["I32", Int32Array.of(-9), [-9]],
    ["U32", Uint32Array.of(4e9), [4e9]],
    ["I16", Int16Array.of(-2), [-2]],
    ["U16", Uint16Array.of(65535), [65535]],
    ["I8", Int8Array.of(-128), [-128]],
    ["U8", Uint8Array.of(255), [255]],
    ["BOOL", Uint8Array.of(0, 1), [0, 1]],
  ] as const)("reads %s", (dtype, array, expected) => {
    const bytes = new Uint8Array(array.buffer);
    expect([...decodeToFloat32(bytes, dtype)]).toEqual(expected);
  });

  it("reads from any alignment", () => {
    const bytes = new Uint8Array([9, 0, 0, 0x80, 0x3f, 0, 0, 0, 0x40]).subarray(1);
    expect([...decodeToFloat32(bytes, "F32")]).toEqual([1, 2]);
  });

  it.each(["F4", "F6_E2M3", "C64"] as const)("refuses %s", (dtype) => {
    expect(() => decodeToFloat32(new Uint8Array(8), dtype)).toThrow(
      expect.objectContaining({ code: "E_INCOMPATIBLE", message: expect.stringContaining(dtype) }),
    );
    expect(() => encodeFromFloat32(new Float32Array(1), dtype)).toThrow(
      expect.objectContaining({ code: "E_INCOMPATIBLE", message: expect.stringContaining(dtype) }),
    );
  });

  it("refuses a part of an element", () => {
    expect(() => decodeToFloat32(new Uint8Array(3), "F16")).toThrow(
      expect.objectContaining({ code: "E_FORMAT" }),
    );
  });
});

describe("findNonFinite", () => {
  it.each(WRITABLE_DTYPES)("finds the first in %s", (dtype) => {
    const bytes = encodeFromFloat32(Float32Array.of(1, -2, Number.NaN, Number.POSITIVE_INFINITY), dtype);
    expect(findNonFinite(bytes, dtype)).toBe(2);
    expect(findNonFinite(bytes.subarray(0, (bytes.length / 4) * 2), dtype)).toBe(-1);
  });

  it.each(WRITABLE_DTYPES)("finds a negative infinity in %s, wherever the bytes lie", (dtype) => {
    const bytes = encodeFromFloat32(Float32Array.of(0, 448, -0, 2 ** -14, Number.NEGATIVE_INFINITY), dtype);
    const unaligned = new Uint8Array(bytes.length + 1).subarray(1);
    unaligned.set(bytes);
    expect(findNonFinite(unaligned, dtype)).toBe(4);
  });

  it("does not take a large float64 for infinite", () => {
    expect(findNonFinite(new Uint8Array(Float64Array.of(1e300).buffer), "F64")).toBe(-1);
  });
});
