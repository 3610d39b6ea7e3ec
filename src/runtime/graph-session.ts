/** Sessions of graphs. */

import type { Graph } from "../graph/graph.js";
import { lowerWithWeights, type WeightUse } from "../graph/onnx/weight-use.js";
import type { Tensor } from "../graph/tensor.js";
import type { DeviceName } from "./device.js";
import { type ExecutionMode, Session, type SessionOptions } from "./session.js";
import type { PreparedWeights } from "./weights/prepared-weights.js";

export interface GraphSessionOptions extends Omit<SessionOptions, "fixedInputs"> {
  readonly weightUse: WeightUse;
  /** Where prepared weights are, and are put. */
  readonly prepared: PreparedWeights;
}

/** For models that compute in the type that weights are converted to. */
export function weightUseOf(device: DeviceName, mode: ExecutionMode): WeightUse {
  if (mode === "lean") return "perUse";
  // Inputs would be copied to a device at every execution.
  return device === "cpu" ? "prepared" : "folded";
}

/**
 * Lowers a graph and makes a session of it.
 *
 * @throws {DyloraError} as {@link Session.create}
 */
export async function openGraphSession(
  graph: Graph,
  outputs: Readonly<Record<string, Tensor>>,
  { weightUse, prepared, ...options }: GraphSessionOptions,
): Promise<Session> {
  const { model, weights } = lowerWithWeights(graph, outputs, weightUse);
  const fixedInputs = await prepared.of(weights);
  return Session.create(model, { ...options, fixedInputs });
}
