import { expect, test } from "vitest";
import { DyloraError } from "../errors.js";
import { criticalT } from "./student-t.js";

// Two-sided quantiles of the tables, e.g. NIST/SEMATECH e-Handbook of Statistical Methods 1.3.6.7.2.
test.each([
  [1, 0.95, 12.7062],
  [2, 0.95, 4.302653],
  [3, 0.95, 3.182446],
  [1, 0.8, 3.077684],
  [2, 0.99, 9.924843],
  [3, 0.99, 5.840909],
])("%d degrees of freedom, %f: %f", (degrees, confidence, expected) => {
  expect(criticalT(degrees, confidence) / expected).toBeCloseTo(1, 5);
});

test("more degrees are the bootstrap's business", () => {
  expect(() => criticalT(4, 0.95)).toThrow(DyloraError);
});
