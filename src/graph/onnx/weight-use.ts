/** Where a model gets its weights from, as the layers read them. */

import type { Graph } from "../graph.js";
import type { Tensor } from "../tensor.js";
import { type LoweredModel, lowerToOnnx } from "./lower.js";
import { lowerPrepared, type PreparedWeight, takeOutPreparation } from "./preparation.js";

/**
 * Where weights are converted, transposed and transformed.
 *
 * - `prepared`: once, for all sessions (preparation.ts).
 * - `folded`: when a session is made, by onnxruntime.
 * - `perUse`: wherever they are used, at every execution.
 */
export type WeightUse = "prepared" | "folded" | "perUse";

/** The model of `outputs`, and the prepared weights that are among its inputs. */
export function lowerWithWeights(
  graph: Graph,
  outputs: Readonly<Record<string, Tensor>>,
  weightUse: WeightUse,
): { model: LoweredModel; weights: readonly PreparedWeight[] } {
  if (weightUse === "prepared") {
    const preparation = takeOutPreparation(graph, Object.values(outputs));
    return { model: lowerPrepared(graph, preparation, outputs), weights: preparation.weights };
  }
  const model = lowerToOnnx(graph, outputs, { weightConversionPerUse: weightUse === "perUse" });
  return { model, weights: [] };
}
