import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { placeLabels, spread } from "./labels.js";

describe("spread", () => {
  test("leaves alone what does not touch, and moves neighbours apart around their middle", () => {
    expect(spread([10, 40, 90], 15, 0, 100)).toEqual([10, 40, 90]);
    expect(spread([50, 50], 10, 0, 100)).toEqual([45, 55]);
    expect(spread([52, 50, 51], 10, 0, 100)).toEqual([61, 41, 51]);
    expect(spread([0, 1], 10, 0, 100)).toEqual([0, 10]);
    expect(spread([99, 100], 10, 0, 100)).toEqual([90, 100]);
    expect(spread([], 10, 0, 100)).toEqual([]);
  });

  test("keeps the order, the gap and the range wherever there is room", () => {
    const positions = fc.array(fc.double({ min: 0, max: 300, noNaN: true }), { maxLength: 12 });
    fc.assert(
      fc.property(positions, (wanted) => {
        const placed = spread(wanted, 20, 0, 300);
        const order = wanted.map((_, index) => index).sort((a, b) => wanted[a]! - wanted[b]!);
        const sorted = order.map((index) => placed[index]!);
        for (const [index, place] of sorted.entries()) {
          expect(place).toBeGreaterThanOrEqual(-1e-9);
          expect(place).toBeLessThanOrEqual(300 + 1e-9);
          if (index > 0) expect(place - sorted[index - 1]!).toBeGreaterThanOrEqual(20 - 1e-9);
        }
      }),
    );
  });
});

describe("placeLabels", () => {
  const labels = [0, 5, 30, 34, 100];
  const box = (x: number, y = 0) => ({ x, y, width: 10, height: 10 });
  const placed = (...args: Parameters<typeof placeLabels<number, ReturnType<typeof box>>>) =>
    placeLabels(...args).map(({ label, place }) => [label, place.y]);

  test("of labels that touch, the first one stays", () => {
    const one = (x: number) => [box(x)];
    const kept = (xs: readonly number[]) => placed(xs, one, []).map(([label]) => label);
    expect(kept(labels)).toEqual([0, 30, 100]);
    expect(kept([34, 30, 5, 0])).toEqual([34, 5]);
  });

  test("moves to the next free place, and covers nothing that is taken", () => {
    const two = (x: number) => [box(x, 0), box(x, 20)];
    expect(placed(labels, two, [])).toEqual([
      [0, 0],
      [5, 20],
      [30, 0],
      [34, 20],
      [100, 0],
    ]);
    expect(placed([0, 5, 100], two, [box(100), box(95, 20), box(3, -5)])).toEqual([[0, 20]]);
  });
});
