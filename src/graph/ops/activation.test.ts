import fc from "fast-check";
import { describeOperators, testOperator, testOperatorOnce } from "../../../test/helpers/check-gradient.js";
import { map } from "../../../test/helpers/reference-array.js";
import type { Graph } from "../graph.js";
import type { Tensor } from "../tensor.js";
import * as activation from "./activation.js";

const { gelu, quickGelu, silu } = activation;

/**
 * At least 16 numbers: a tolerance relative to the norm means nothing for one number far out in a tail, where float32 loses
 * all digits of Φ(x) = (1 + erf(x / √2)) / 2.
 */
const shapes = fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 2 }).map((lengths) => [...lengths, 16]);

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

/** Φ(x), the standard normal distribution function: Simpson's rule on its density, error below 1e-11 for |x| < 8. */
function normalCdf(x: number): number {
  const steps = 400;
  const width = x / steps;
  let total = 0;
  for (let i = 0; i <= steps; i++) {
    const weight = i === 0 || i === steps ? 1 : i % 2 === 0 ? 2 : 4;
    total += weight * Math.exp(-((i * width) ** 2) / 2);
  }
  return 0.5 + (total * width) / (3 * Math.sqrt(2 * Math.PI));
}

function testActivation(operator: (graph: Graph, x: Tensor) => Tensor, compute: (x: number) => number) {
  // A spread of 3 reaches the flat and the linear tail.
  testOperator("matches its definition", shapes, (shape) => ({
    inputs: { x: { shape, draw: (random) => 3 * random.normal() } },
    build: (graph, { x }) => operator(graph, x!),
    reference: ({ x }) => map(compute, x!),
  }));
  testOperatorOnce("of a symbolic axis", {
    inputs: { x: { shape: ["rank", 16] } },
    symbols: [{ rank: 3 }, { rank: 1 }],
    build: (graph, { x }) => operator(graph, x!),
    reference: ({ x }) => map(compute, x!),
  });
}

describeOperators(activation, {
  silu: () => testActivation(silu, (x) => x * sigmoid(x)),
  quickGelu: () => testActivation(quickGelu, (x) => x * sigmoid(1.702 * x)),
  gelu: () => testActivation(gelu, (x) => x * normalCdf(x)),
});
