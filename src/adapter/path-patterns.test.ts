import { describe, expect, it } from "vitest";
import { PathPatterns } from "./path-patterns.js";

const patterns = (entries: Record<string, number>) =>
  new PathPatterns(Object.entries(entries), "read x: rank_pattern");

describe("keys match as in PEFT: (.*\\.)?(KEY)$", () => {
  const path = "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0";
  it.each<[key: string, matches: boolean]>([
    [path, true],
    [`^${path}`, true],
    ["to_out.0", true],
    ["attn1.to_out.0", true],
    ["to_out\\.0", true],
    ["0", true],
    ["^to_out.0", false],
    ["ut.0", false],
    ["attn1", false],
    ["down_blocks.0", false],
    [".*attn1.*", true],
    ["attn[12]\\.to_out\\.0", true],
    ["(?:to_q|to_out.0)", true],
    ["^down_blocks.*", true],
    ["^up_blocks.*", false],
    ["attentions\\.\\d\\.transformer_blocks\\.0\\.attn1\\.to_out\\.0", true],
  ])("%s: %s", (key, matches) => {
    expect(patterns({ [key]: 7 }).find(path)).toBe(matches ? 7 : null);
  });

  it("the first of several counts, whatever its form", () => {
    expect(patterns({ "attn2.to_q": 1, to_q: 2, ".*": 3 }).find("a.attn2.to_q")).toBe(1);
    expect(patterns({ to_q: 2, "attn2.to_q": 1, ".*": 3 }).find("a.attn2.to_q")).toBe(2);
    expect(patterns({ ".*": 3, to_q: 2, "^a.attn2.to_q": 1 }).find("a.attn2.to_q")).toBe(3);
    expect(patterns({ "^a.attn2.to_q": 1, to_q: 2 }).find("a.attn2.to_q")).toBe(1);
    expect(patterns({ x: 1 }).find("a.attn2.to_q")).toBeNull();
  });
});

describe("what is refused", () => {
  it.each([
    ["(a+)+$", "too many repetitions"],
    [".*.*.*x", "too many repetitions"],
    ["(", "no regular expression"],
    ["(?P<name>to_q)", "no regular expression"],
  ])("%s", (key, reason) => {
    expect(() => patterns({ [key]: 1 })).toThrow(
      expect.objectContaining({ code: "E_INCOMPATIBLE", message: expect.stringContaining(reason) }),
    );
  });

  it("hundreds of expressions", () => {
    const many = Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`.*${i}`, 1]));
    expect(() => patterns(many)).toThrow("more than 64 regular expressions");
  });
});

it("takes a thousand paths in no time", () => {
  const entries = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`blocks.${i}.to_q`, i]));
  const table = patterns(entries);
  expect(Object.keys(entries).every((path) => table.find(path) === entries[path])).toBe(true);
});
