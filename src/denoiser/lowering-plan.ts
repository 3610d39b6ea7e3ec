/** How the denoiser is lowered for a device: what is computed ahead of time and what at every execution. */

import type { WeightUse } from "../graph/onnx/weight-use.js";
import { fastestTile, leanTile, type TileChoice } from "../graph/ops/winograd.js";
import { halfProductType } from "../runtime/device.js";
import { weightUseOf } from "../runtime/graph-session.js";
import { type ExecutionMode, usableMode } from "../runtime/session.js";
import type { DenoiserOptions } from "./denoiser.js";
import type { ComputeType } from "./denoiser-graph.js";

export interface LoweringPlan {
  mode: ExecutionMode;
  weightUse: WeightUse;
  /** See {@link SessionOptions}. */
  keepsWeights: boolean;
  /** Of the graph. */
  graph: {
    foldsConstants: boolean;
    convolutionTile: TileChoice;
    computeType: ComputeType;
    halfProductType: ComputeType;
  };
}

export function loweringPlan(
  options: Pick<
    DenoiserOptions,
    "checkpoint" | "device" | "mode" | "computeType" | "convolutionTile" | "gradientCheckpointing"
  >,
): LoweringPlan {
  const { checkpoint, device, computeType = "float32", convolutionTile, gradientCheckpointing } = options;
  const mode = usableMode(device, options.mode);
  const productType = halfProductType(device);
  // Folded, float16 weights that are multiplied in float32 would take twice their memory on the device. bfloat16 ones have to be
  // folded: WebGPU does not know the type.
  const keepsWeights =
    computeType === "float16" &&
    productType === "float32" &&
    ![...checkpoint.unet.weights.values(), ...checkpoint.textEncoder.weights.values()].some(
      ({ dtype }) => dtype === "BF16",
    );
  const weightUse = keepsWeights ? "perUse" : weightUseOf(device, mode);
  return {
    mode,
    weightUse,
    keepsWeights,
    graph: {
      foldsConstants: weightUse !== "perUse",
      convolutionTile: convolutionTile ?? tileChoiceOf(weightUse, gradientCheckpointing),
      computeType,
      halfProductType: productType,
    },
  };
}

/**
 * Tiles need transformed kernels, which take longer to compute than they save unless that is done once. Who has activations computed
 * again to save memory does not want it spent on kernels.
 */
export function tileChoiceOf(weightUse: WeightUse, savesMemory = false): TileChoice {
  if (weightUse !== "prepared") return () => null;
  return savesMemory ? leanTile : fastestTile;
}
