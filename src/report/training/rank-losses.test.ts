import { expect, test } from "vitest";
import { rankLines } from "./rank-losses.js";
import type { LoggedStep } from "./run-log.js";

function step(number: number, draws: readonly { rank: number; loss: number }[]): LoggedStep {
  const loss = draws[0]!.loss;
  return {
    ...{ step: number, epoch: 1, loss, lossEma: loss, draws, learningRates: {} },
    ...{ gradNorm: 1, secondsPerStep: 1, rssBytes: 1 },
  };
}

test("each rank has the smoothed losses of its own draws, micro-steps included", () => {
  const lines = rankLines([
    step(1, [{ rank: 4, loss: 1 }]),
    step(2, [
      { rank: 4, loss: 3 },
      { rank: 8, loss: 0.5 },
    ]),
    step(3, [{ rank: 8, loss: 0.5 }]),
  ]);
  expect(lines.map(({ name, draws }) => [name, draws])).toEqual([
    ["4", 2],
    ["8", 2],
  ]);
  expect(lines[0]!.points.map(({ step: at }) => at)).toEqual([1, 2]);
  expect(lines[0]!.points[0]!.loss).toBe(1);
  // Between the first loss and the newer one, nearer to the newer.
  expect(lines[0]!.points[1]!.loss).toBeGreaterThan(2);
  expect(lines[0]!.points[1]!.loss).toBeLessThan(3);
  expect(lines[1]!.points.map(({ loss }) => loss)).toEqual([0.5, 0.5]);
});

test("many ranks are put together with their neighbours, and no draw is lost", () => {
  const steps = Array.from({ length: 640 }, (_, index) =>
    step(index + 1, [{ rank: 1 + (index % 64), loss: 1 }]),
  );
  const lines = rankLines(steps);
  expect(lines.map(({ name }) => name)).toEqual([
    "1–8",
    "9–16",
    "17–24",
    "25–32",
    "33–40",
    "41–48",
    "49–56",
    "57–64",
  ]);
  expect(lines.reduce((sum, { draws }) => sum + draws, 0)).toBe(640);
  expect(rankLines([])).toEqual([]);
});
