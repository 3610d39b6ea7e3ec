import { expect, test } from "vitest";
import { LossScaler } from "./loss-scaler.js";

test("begins at 65536, halves at an overflow, doubles after 2000 steps without one", () => {
  const scaler = new LossScaler();
  expect(scaler.state).toEqual({ scale: 65536, goodSteps: 0, skippedSteps: 0 });
  for (let step = 0; step < 1999; step++) scaler.taken();
  expect(scaler.scale).toBe(65536);
  expect(scaler.skipped()).toBe(true);
  expect(scaler.state).toEqual({ scale: 32768, goodSteps: 0, skippedSteps: 1 });
  for (let step = 0; step < 2000; step++) scaler.taken();
  expect(scaler.state).toEqual({ scale: 65536, goodSteps: 0, skippedSteps: 1 });
});

test("goes on from a state as if it had never stopped", () => {
  const whole = new LossScaler();
  for (let step = 0; step < 1500; step++) whole.taken();
  const resumed = new LossScaler(whole.state);
  for (const scaler of [whole, resumed]) for (let step = 0; step < 600; step++) scaler.taken();
  expect(resumed.state).toEqual(whole.state);
  expect(resumed.state).toEqual({ scale: 131072, goodSteps: 100, skippedSteps: 0 });
});

test("says when gradients overflow unscaled", () => {
  const scaler = new LossScaler({ scale: 2, goodSteps: 0, skippedSteps: 15 });
  expect(scaler.skipped()).toBe(true);
  expect(scaler.skipped()).toBe(false);
});
