/**
 * Normalizations with frozen scale and shift.
 *
 * With x̂ = (x - mean) r, r = 1 / sqrt(var + eps), y = γ x̂ + β and g = γ dy, both have
 * dx = r (g - mean(g) - x̂ mean(g x̂)), the means taken over what was normalized together.
 *
 * Computed in float32 whatever the type of x, which the result has again; γ and β are float32.
 */

import { internalError } from "../../errors.js";
import type { Graph } from "../graph.js";
import { operand, operandAgain, rounded } from "../half-products.js";
import { type ElementType, fixedShape, type Tensor } from "../tensor.js";
import { add, div, mul, scalar, scale, sigmoid, sqrt, sub } from "./elementwise.js";
import { mean, sum, sumOfSquares } from "./reduce.js";
import { reshape } from "./shape.js";

export interface GroupNormOptions {
  groups: number;
  eps: number;
  /** Applied to the result inside the same operation, so that its input is computed again instead of kept. */
  activation?: "silu" | undefined;
}

/**
 * Group normalization (Wu and He 2018, arXiv:1803.08494), optionally followed by SiLU. Only `x` and two numbers per group
 * are kept for the backward pass.
 *
 * @param x - `[N, C, H, W]`
 * @param gamma - `[C]`, not differentiated
 * @param beta - `[C]`, not differentiated
 */
export function groupNorm(
  graph: Graph,
  x: Tensor,
  gamma: Tensor,
  beta: Tensor,
  options: GroupNormOptions,
): Tensor {
  const [n, channels, height, width] = fixedShape(x.shape) as [number, number, number, number];
  const { groups, eps, activation } = options;
  if (channels % groups !== 0) throw internalError(`${channels} channels in ${groups} groups`);
  const perGroup = channels / groups;
  const pixels = height * width;
  const count = perGroup * pixels;
  const grouped = [n, groups, perGroup, pixels] as const;

  // Composed of reductions: InstanceNormalization, the fused alternative, loses precision on WebGPU.
  let center!: Tensor; // [N, G, 1, 1]
  let rootInverse!: Tensor; // [N, G, 1, 1]
  let gain!: Tensor; // γ r, [N, G, C/G, 1]
  const perChannel = (v: Tensor) => reshape(graph, v, [1, groups, perGroup, 1]);
  return graph.operation1(
    activation === undefined ? "groupNorm" : "groupNormSilu",
    [x],
    () => {
      const rows = reshape(graph, operand(graph, x, "float32"), [n, groups, count]);
      const rowMean = mean(graph, rows, [2]);
      const deviation = sub(graph, rows, rowMean);
      const variance = scale(graph, sumOfSquares(graph, deviation, [2]), 1 / count);
      const deviationSize = sqrt(graph, add(graph, variance, scalar(graph, eps, rows)));
      rootInverse = reshape(graph, div(graph, scalar(graph, 1, rows), deviationSize), [n, groups, 1, 1]);
      center = reshape(graph, rowMean, [n, groups, 1, 1]);
      gain = mul(graph, rootInverse, perChannel(gamma));
      const y = add(graph, mul(graph, reshape(graph, deviation, grouped), gain), perChannel(beta));
      const activated = activation === undefined ? y : mul(graph, y, sigmoid(graph, y));
      return rounded(graph, reshape(graph, activated, x.shape), x.dtype);
    },
    (dOut) => {
      const deviation = sub(graph, reshape(graph, operandAgain(graph, x, "float32"), grouped), center);
      let dy = reshape(graph, operandAgain(graph, dOut, "float32"), grouped);
      if (activation !== undefined) {
        // silu'(y) = s (1 + y (1 - s))
        const y = add(graph, mul(graph, deviation, gain), perChannel(beta));
        const s = sigmoid(graph, y);
        const one = scalar(graph, 1, y);
        dy = mul(graph, dy, mul(graph, s, add(graph, one, mul(graph, y, sub(graph, one, s)))));
      }
      // Sums over pixels first: what remains to be weighted with γ is one number per channel.
      const inGroup = (perPixel: Tensor) =>
        scale(graph, sum(graph, mul(graph, sum(graph, perPixel, [3]), gain), [2]), 1 / count); // r mean(γ …)
      const meanG = inGroup(dy);
      const meanGX = mul(graph, inGroup(mul(graph, dy, deviation)), mul(graph, rootInverse, rootInverse));
      const dx = sub(graph, sub(graph, mul(graph, dy, gain), meanG), mul(graph, deviation, meanGX));
      return [rounded(graph, reshape(graph, dx, x.shape), x.dtype)];
    },
  );
}

/**
 * Layer normalization over the last axis (Ba et al. 2016, arXiv:1607.06450).
 *
 * @param x - `[..., C]`
 * @param gamma - `[C]`, not differentiated
 * @param beta - `[C]`, not differentiated
 * @param result - type of the result
 */
export function layerNorm(
  graph: Graph,
  x: Tensor,
  gamma: Tensor,
  beta: Tensor,
  eps: number,
  result: ElementType = x.dtype,
): Tensor {
  const statistics = [...x.shape.slice(0, -1), 1];
  let center!: Tensor;
  let rootInverse!: Tensor;
  return graph.operation1(
    "layerNorm",
    [x],
    () => {
      const [y, rowMean, inverse] = graph.node({
        op: "LayerNormalization",
        inputs: [operand(graph, x, "float32"), gamma, beta],
        attributes: { axis: -1, epsilon: { float: eps } },
        outputs: [
          { shape: x.shape, dtype: "float32" },
          { shape: statistics, dtype: "float32" },
          { shape: statistics, dtype: "float32" },
        ],
      });
      center = rowMean!;
      rootInverse = inverse!;
      return rounded(graph, y!, result);
    },
    (dy) => {
      const normalized = mul(graph, sub(graph, operandAgain(graph, x, "float32"), center), rootInverse);
      const g = mul(graph, operandAgain(graph, dy, "float32"), gamma);
      const inner = sub(
        graph,
        sub(graph, g, mean(graph, g, [-1])),
        mul(graph, normalized, mean(graph, mul(graph, g, normalized), [-1])),
      );
      return [rounded(graph, mul(graph, inner, rootInverse), x.dtype)];
    },
  );
}
