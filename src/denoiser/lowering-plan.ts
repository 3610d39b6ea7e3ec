/** How the denoiser is lowered for a device: what is converted ahead of time and what at every execution. */

import { halfProductType } from "../runtime/device.js";
import { type ExecutionMode, usableMode } from "../runtime/session.js";
import type { DenoiserOptions } from "./denoiser.js";
import type { ComputeType } from "./denoiser-graph.js";

export interface LoweringPlan {
  mode: ExecutionMode;
  /** See {@link SessionOptions}. */
  keepsWeights: boolean;
  /** Of the graph. */
  graph: { foldsConstants: boolean; computeType: ComputeType; halfProductType: ComputeType };
  /** Of the lowering. */
  lowering: { weightConversionPerUse: boolean };
}

/** @param latent - size of the latents */
export function loweringPlan(
  options: Pick<DenoiserOptions, "checkpoint" | "device" | "mode" | "computeType">,
  latent: { readonly height: number; readonly width: number },
): LoweringPlan {
  const { checkpoint, device, computeType = "float32" } = options;
  const mode = usableMode(device, typeof options.mode === "function" ? options.mode(latent) : options.mode);
  const productType = halfProductType(device);
  // Folded, float16 weights that are multiplied in float32 would take twice their memory on the device. bfloat16 ones have to be
  // folded: WebGPU does not know the type.
  const keepsWeights =
    computeType === "float16" &&
    productType === "float32" &&
    ![...checkpoint.unet.weights.values(), ...checkpoint.textEncoder.weights.values()].some(
      ({ dtype }) => dtype === "BF16",
    );
  const foldsConstants = mode === "fast" && !keepsWeights;
  return {
    mode,
    keepsWeights,
    graph: { foldsConstants, computeType, halfProductType: productType },
    lowering: { weightConversionPerUse: !foldsConstants },
  };
}
