import { describe, expect, test } from "vitest";
import { randomStream } from "../random/stream.js";
import { type CaptionOptions, drawCaption, isCaptionFixed } from "./caption.js";

const CAPTION = "sks dog, sitting,outdoors ,  grass, sunny";

/** The caption of many samples. */
function draw(options: CaptionOptions, count = 2000, caption = CAPTION): string[] {
  return Array.from({ length: count }, (_, sample) => drawCaption(caption, options, randomStream(1, sample)));
}

describe("drawCaption", () => {
  test("changes nothing without options", () => {
    expect(new Set(draw({}, 20))).toEqual(new Set([CAPTION]));
  });

  test("puts prefix and suffix around the caption, with spaces", () => {
    expect(draw({ prefix: "photo of", suffix: "by me" }, 1, "a dog")).toEqual(["photo of a dog by me"]);
    expect(draw({ prefix: "photo" }, 1, "")).toEqual(["photo"]);
  });

  test("drops captions at the given rate, prefix included", () => {
    const captions = draw({ dropoutRate: 0.25, prefix: "p" });
    const dropped = captions.filter((caption) => caption === "").length;
    // Binomial(2000, 0.25): standard deviation 19; five of them.
    expect(Math.abs(dropped - 500)).toBeLessThan(97);
    expect(new Set(captions)).toEqual(new Set(["", `p ${CAPTION}`]));
    expect(new Set(draw({ dropoutRate: 1 }, 20))).toEqual(new Set([""]));
  });

  test("shuffles the tags: every order comes up, none is lost", () => {
    const tags = ["a", "b", "c"];
    const counts = new Map<string, number>();
    for (const caption of draw({ shuffle: true }, 3000, tags.join(","))) {
      counts.set(caption, (counts.get(caption) ?? 0) + 1);
    }
    expect(counts.size).toBe(6);
    for (const [caption, count] of counts) {
      expect(caption.split(", ").sort()).toEqual(tags);
      // Binomial(3000, 1/6): standard deviation 20; five of them.
      expect(Math.abs(count - 500)).toBeLessThan(102);
    }
  });

  test("keeps the leading tags in place", () => {
    const captions = new Set(draw({ shuffle: true, keepTokens: 2 }));
    expect(captions.size).toBe(6);
    for (const caption of captions) expect(caption).toMatch(/^sks dog, sitting, /);
    expect(new Set(draw({ shuffle: true, keepTokens: 9 }, 20))).toEqual(
      new Set(["sks dog, sitting, outdoors, grass, sunny"]),
    );
  });

  test("splits at another separator", () => {
    expect(new Set(draw({ shuffle: true, separator: "|" }, 50, "a, b | c"))).toEqual(
      new Set(["a, b, c", "c, a, b"]),
    );
  });

  test("dropout does not change how the other captions are shuffled", () => {
    const shuffled = draw({ shuffle: true }, 100);
    draw({ shuffle: true, dropoutRate: 0.5 }, 100).forEach((caption, sample) => {
      if (caption !== "") expect(caption).toBe(shuffled[sample]);
    });
  });
});

test("isCaptionFixed", () => {
  expect(isCaptionFixed({ prefix: "p", keepTokens: 2 })).toBe(true);
  expect(isCaptionFixed({ shuffle: true })).toBe(false);
  expect(isCaptionFixed({ dropoutRate: 0.1 })).toBe(false);
});
