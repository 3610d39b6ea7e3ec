import { expect, test } from "vitest";
import { bandOfDraw, timestepBands, timestepOfDraw } from "./timestep-bands.js";

test("four equal bands hold every timestep once", () => {
  expect(timestepBands(1000)).toEqual([
    { firstTimestep: 0, lastTimestep: 249 },
    { firstTimestep: 250, lastTimestep: 499 },
    { firstTimestep: 500, lastTimestep: 749 },
    { firstTimestep: 750, lastTimestep: 999 },
  ]);
  // Of a length that four does not divide, none is lost and none counted twice.
  const bands = timestepBands(10);
  expect(bands[0]!.firstTimestep).toBe(0);
  expect(bands[3]!.lastTimestep).toBe(9);
  for (const [index, { firstTimestep }] of bands.slice(1).entries()) {
    expect(firstTimestep).toBe(bands[index]!.lastTimestep + 1);
  }
});

test.each([1000, 10])("a draw lies in its band, of %d timesteps, wherever it starts", (steps) => {
  const bands = timestepBands(steps);
  for (const offset of [0, 0.3, 0.999999, 1 - 2 ** -53]) {
    for (let draw = 0; draw < 64; draw++) {
      const timestep = timestepOfDraw(draw, offset, steps);
      const { firstTimestep, lastTimestep } = bands[bandOfDraw(draw)]!;
      expect(timestep).toBeGreaterThanOrEqual(firstTimestep);
      expect(timestep).toBeLessThanOrEqual(lastTimestep);
    }
  }
});

test("the draws of a band are spread over it, however many there are", () => {
  for (const rounds of [2, 3, 5, 8, 16]) {
    const places = Array.from({ length: rounds }, (_, round) => timestepOfDraw(4 * round, 0.37, 1000));
    places.sort((a, b) => a - b);
    const gaps = places.map((place, i) => (places[i + 1] ?? places[0]! + 250) - place);
    // Equal spacing would be 250 / rounds; of Kronecker sequences by the golden ratio, gaps have at most three lengths.
    expect(Math.min(...gaps)).toBeGreaterThan(0.38 * (250 / rounds) - 1);
    expect(Math.max(...gaps)).toBeLessThan(1.9 * (250 / rounds) + 1);
  }
});
