import { expect, test } from "vitest";
import { parseSize } from "./parse-size.js";

test.each([
  ["123456", 123456],
  ["50MB", 50_000_000],
  ["50 mb", 50_000_000],
  ["1.5GB", 1_500_000_000],
  ["500kB", 500_000],
  ["48MiB", 48 * 2 ** 20],
  ["0.5KiB", 512],
  ["7B", 7],
])("%s", (text, bytes) => expect(parseSize(text)).toBe(bytes));

test.each(["", "MB", "-5MB", "5 parsecs", "1e9", "0", "0.5", "1,5GB", "99999999999999999GB", "constructor"])(
  "%j is no size",
  (text) => expect(parseSize(text)).toBeNull(),
);
