/**
 * The optimizers as graphs, number for number what their kernels in `../optimizer` compute.
 *
 * Every component has numbers of its own, columns `[rank, 1]`: those that learn in a step have the optimizer's, the others such
 * that nothing of them changes.
 */

import type { Graph } from "../../graph/graph.js";
import { add, cast, div, mul, scalar, sqrt, sub } from "../../graph/ops/elementwise.js";
import type { Tensor } from "../../graph/tensor.js";
import type { Optimizer } from "../optimizer/index.js";

/** One factor: its values, its gradient (scaled), and the optimizer's arrays. */
interface FactorTensors {
  readonly values: Tensor;
  readonly gradient: Tensor;
  readonly slots: readonly Tensor[];
}

export interface OptimizerRule {
  readonly columns: readonly string[];
  /**
   * The columns' numbers for one component.
   *
   * @param step - the number of its step, from 1; null: it does not learn
   */
  numbers(step: number | null, learningRate: number): readonly number[];
  /** @param column - one of {@link columns} */
  update(
    graph: Graph,
    factor: FactorTensors,
    column: (name: string) => Tensor,
  ): { values: Tensor; slots: readonly Tensor[] };
}

/** Null: the optimizer works in the process's memory only. */
export function optimizerRule({ name, settings }: Optimizer): OptimizerRule | null {
  return RULES[name]?.(settings) ?? null;
}

type Settings = Readonly<Record<string, number>>;

const RULES: Readonly<Record<string, (settings: Settings) => OptimizerRule>> = {
  AdamW: ({ beta1 = 0, beta2 = 0, eps = 0, weight_decay: weightDecay = 0 }) => ({
    columns: [
      "beta1",
      "oneMinusBeta1",
      "beta2",
      "oneMinusBeta2",
      "stepSize",
      "inverseRootCorrection",
      "decay",
    ],
    numbers: (step, learningRate) =>
      step === null
        ? [1, 0, 1, 0, 0, 1, 0]
        : [
            ...[beta1, 1 - beta1, beta2, 1 - beta2],
            learningRate / (1 - beta1 ** step),
            1 / Math.sqrt(1 - beta2 ** step),
            learningRate * weightDecay,
          ],
    update: (graph, { values: w, gradient: g, slots }, column) => {
      const times = (a: Tensor, name: string) => mul(graph, a, column(name));
      const m = add(graph, times(slots[0]!, "beta1"), times(g, "oneMinusBeta1"));
      const v = add(graph, times(slots[1]!, "beta2"), times(mul(graph, g, g), "oneMinusBeta2"));
      const root = times(sqrt(graph, v), "inverseRootCorrection");
      const denominator = add(graph, root, scalar(graph, eps, root));
      const change = add(graph, div(graph, times(m, "stepSize"), denominator), times(w, "decay"));
      return { values: sub(graph, w, change), slots: [m, v] };
    },
  }),

  Lion: ({ beta1 = 0, beta2 = 0, weight_decay: weightDecay = 0 }) => ({
    columns: ["beta1", "oneMinusBeta1", "beta2", "oneMinusBeta2", "learningRate", "decay"],
    numbers: (step, learningRate) =>
      step === null
        ? [1, 0, 1, 0, 0, 0]
        : [beta1, 1 - beta1, beta2, 1 - beta2, learningRate, learningRate * weightDecay],
    update: (graph, { values: w, gradient: g, slots }, column) => {
      const times = (a: Tensor, name: string) => mul(graph, a, column(name));
      const m = slots[0]!;
      const direction = add(graph, times(m, "beta1"), times(g, "oneMinusBeta1"));
      const change = add(graph, times(sign(graph, direction), "learningRate"), times(w, "decay"));
      return {
        values: sub(graph, w, change),
        slots: [add(graph, times(m, "beta2"), times(g, "oneMinusBeta2"))],
      };
    },
  }),

  SGDNesterov: ({ momentum = 0, weight_decay: weightDecay = 0 }) => ({
    columns: ["momentum", "weightDecay", "learningRate"],
    numbers: (step, learningRate) => (step === null ? [1, 0, 0] : [momentum, weightDecay, learningRate]),
    update: (graph, { values: w, gradient, slots }, column) => {
      const times = (a: Tensor, name: string) => mul(graph, a, column(name));
      const g = add(graph, gradient, times(w, "weightDecay"));
      const u = add(graph, times(slots[0]!, "momentum"), g);
      const change = times(add(graph, g, times(u, "momentum")), "learningRate");
      return { values: sub(graph, w, change), slots: [u] };
    },
  }),
};

/** 1, 0 or -1: WebGPU has no kernel for ONNX's Sign (onnxruntime 1.30). */
function sign(graph: Graph, x: Tensor): Tensor {
  const is = (op: "Greater" | "Less") => {
    const answer = graph.node1({
      op,
      inputs: [x, scalar(graph, 0, x)],
      outputs: [{ shape: x.shape, dtype: "bool" }],
    });
    return cast(graph, answer, "float32");
  };
  return sub(graph, is("Greater"), is("Less"));
}
