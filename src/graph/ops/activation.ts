/** Activation functions of the models. */

import type { Graph } from "../graph.js";
import { unroundedWherePossible } from "../half-products.js";
import type { Tensor } from "../tensor.js";
import { add, erf, exp, mul, neg, scalar, scale, sigmoid, sub } from "./elementwise.js";

/** `x * sigmoid(slope * x)`, built as nodes without a recorded operation. */
function gated(graph: Graph, label: string, x: Tensor, slope: number): Tensor {
  return graph.operation1(
    label,
    [x],
    () =>
      unroundedWherePossible(graph, [x], (exact) =>
        mul(graph, exact!, sigmoid(graph, scale(graph, exact!, slope))),
      ),
    // y' = s + slope x s (1 - s), s = sigmoid(slope x): computed again from x, so that only x is kept.
    (dy) => {
      const scaled = scale(graph, x, slope);
      const s = sigmoid(graph, scaled);
      const one = scalar(graph, 1, x);
      return [mul(graph, dy, mul(graph, s, add(graph, one, mul(graph, scaled, sub(graph, one, s)))))];
    },
  );
}

/** SiLU, `x sigmoid(x)` (Elfwing et al. 2017, arXiv:1702.03118). */
export function silu(graph: Graph, x: Tensor): Tensor {
  return gated(graph, "silu", x, 1);
}

/** OpenAI CLIP's approximation of GELU, `x sigmoid(1.702 x)`. */
export function quickGelu(graph: Graph, x: Tensor): Tensor {
  return gated(graph, "quickGelu", x, 1.702);
}

/** Exact GELU, `x Φ(x)` (Hendrycks and Gimpel 2016, arXiv:1606.08415). */
export function gelu(graph: Graph, x: Tensor): Tensor {
  return graph.operation1(
    "gelu",
    [x],
    () =>
      unroundedWherePossible(graph, [x], (exact) =>
        graph.node1({
          op: "Gelu",
          domain: "com.microsoft",
          inputs: [exact!],
          outputs: [{ shape: x.shape, dtype: exact!.dtype }],
        }),
      ),
    // y' = Φ(x) + x φ(x)
    (dy) => {
      const cdf = scale(
        graph,
        add(graph, erf(graph, scale(graph, x, Math.SQRT1_2)), scalar(graph, 1, x)),
        0.5,
      );
      const pdf = scale(
        graph,
        exp(graph, scale(graph, neg(graph, mul(graph, x, x)), 0.5)),
        1 / Math.sqrt(2 * Math.PI),
      );
      return [mul(graph, dy, add(graph, cdf, mul(graph, x, pdf)))];
    },
  );
}
