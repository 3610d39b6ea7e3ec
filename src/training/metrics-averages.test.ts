import { describe, expect, it } from "vitest";
import { ExponentialAverage, LOSS_TIME_CONSTANT_STEPS, LossAverages } from "./metrics-averages.js";

describe("ExponentialAverage", () => {
  it("weighs a value e times less per time constant", () => {
    const average = new ExponentialAverage(2);
    expect(average.value).toBeNull();
    expect(average.add(10)).toBe(10);
    const keep = Math.exp(-1 / 2);
    expect(average.add(4)).toBeCloseTo((10 * keep + 4) / (keep + 1), 14);
    expect(average.add(1)).toBeCloseTo((10 * keep ** 2 + 4 * keep + 1) / (keep ** 2 + keep + 1), 14);
    const settled = average.value!;
    expect(average.add(settled)).toBeCloseTo(settled, 14);
  });

  it("is not pulled towards 0 at the start", () => {
    const average = new ExponentialAverage();
    for (let i = 0; i < 5; i++) expect(average.add(0.3)).toBeCloseTo(0.3, 14);
  });

  it("follows a change by 63 % within its time constant", () => {
    const average = new ExponentialAverage();
    for (let i = 0; i < 20 * LOSS_TIME_CONSTANT_STEPS; i++) average.add(0);
    for (let i = 0; i < LOSS_TIME_CONSTANT_STEPS; i++) average.add(1);
    expect(average.value).toBeCloseTo(1 - 1 / Math.E, 6);
  });
});

describe("LossAverages", () => {
  it("keeps every rank apart", () => {
    const averages = new LossAverages();
    averages.add(8, 0.5);
    averages.add(4, 0.1);
    averages.add(8, 0.5);
    expect(averages.ranks()).toEqual([
      { rank: 4, loss: 0.1, draws: 1 },
      { rank: 8, loss: 0.5, draws: 2 },
    ]);
    expect(averages.overall.value).toBeGreaterThan(0.3);
  });

  it("goes on from its state, through JSON, to the last bit", () => {
    const losses = Array.from({ length: 60 }, (_, i) => [4 * (1 + (i % 3)), Math.sin(i) ** 2 / 3] as const);
    const straight = new LossAverages();
    let resumed = new LossAverages();
    for (const [i, [rank, loss]] of losses.entries()) {
      straight.add(rank, loss);
      resumed.add(rank, loss);
      if (i % 7 === 0) resumed = new LossAverages(JSON.parse(JSON.stringify(resumed.state)));
    }
    expect(resumed.state).toEqual(straight.state);
    expect(resumed.ranks()).toEqual(straight.ranks());
  });
});
