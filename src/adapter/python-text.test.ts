import { describe, expect, it } from "vitest";
import { pythonFloat, pythonJson, pythonStr } from "./python-text.js";

// Every expected text was printed by CPython 3.
describe("pythonFloat", () => {
  it.each([
    [1, "1.0"],
    [100, "100.0"],
    [-3, "-3.0"],
    [0, "0.0"],
    [-0, "-0.0"],
    [0.1, "0.1"],
    [0.0001, "0.0001"],
    [0.00012345, "0.00012345"],
    [0.00001, "1e-05"],
    [1.5e-7, "1.5e-07"],
    [-2.5e-5, "-2.5e-05"],
    [5e-324, "5e-324"],
    [123456789.125, "123456789.125"],
    [1e15, "1000000000000000.0"],
    [1e16, "1e+16"],
    [1.2345e16, "1.2345e+16"],
    [1.7976931348623157e308, "1.7976931348623157e+308"],
    [2 / 3, "0.6666666666666666"],
    [1781000000.123, "1781000000.123"],
    [Number.NaN, "nan"],
    [Number.POSITIVE_INFINITY, "inf"],
    [Number.NEGATIVE_INFINITY, "-inf"],
  ])("%s is %s", (value, text) => {
    expect(pythonFloat(value)).toBe(text);
  });
});

it("pythonStr", () => {
  expect([null, true, false, 5, "x"].map(pythonStr)).toEqual(["None", "True", "False", "5", "x"]);
});

it("pythonJson escapes and spaces as json.dumps", () => {
  expect(pythonJson({ ü: [1, true, null, "\u007f😀"], "a b": {}, c: [] })).toBe(
    '{"\\u00fc": [1, true, null, "\\u007f\\ud83d\\ude00"], "a b": {}, "c": []}',
  );
});
