import { expect, test } from "vitest";
import { checkResolution, parseResolution } from "./resolution.js";

test.each([
  ["512", 64, { width: 512, height: 512 }],
  ["768,512", 64, { width: 768, height: 512 }],
  [" 640 , 448 ", 64, { width: 640, height: 448 }],
  ["72", 8, { width: 72, height: 72 }],
])("parseResolution(%j, %d)", (text, multiple, expected) => {
  expect(parseResolution(text, multiple)).toEqual(expected);
});

test.each(["", "512x512", "512,", ",512", "512,512,512", "-512", "5e2", "512.5", "abc"])(
  "refuses %j as no resolution",
  (text) => {
    expect(() => parseResolution(text, 64)).toThrow(
      expect.objectContaining({ code: "E_USAGE", message: expect.stringContaining(`got "${text}"`) }),
    );
  },
);

test.each([
  ["500", "512"],
  ["0", "64"],
  ["20", "64"],
  ["512,700", "512,704"],
])("names the nearest size for %s: %s", (text, nearest) => {
  expect(() => parseResolution(text, 64)).toThrow(
    expect.objectContaining({ code: "E_USAGE", note: `The nearest is --resolution ${nearest}.` }),
  );
});

test("checkResolution takes sizes that were parsed elsewhere", () => {
  expect(checkResolution({ width: 64, height: 96 }, 16)).toEqual({ width: 64, height: 96 });
  expect(() => checkResolution({ width: 64, height: 90 }, 16)).toThrow(
    expect.objectContaining({ code: "E_USAGE" }),
  );
});
