/** What the U-Net predicts, from whoever knows it best. */
import type { PredictionType } from "../config.js";
import { incompatible } from "./problem.js";
import type { DeclaredPrediction, PredictionTypeSource } from "./types.js";

/**
 * The checkpoint's own word, else the option, else epsilon. An option that contradicts a scheduler config is an error;
 * against mere metadata of a single file, which a tool wrote in passing, the option wins.
 *
 * @param vParameterization - the option; undefined: not given
 * @throws {DyloraError} `E_INCOMPATIBLE` for an option that contradicts the scheduler config
 */
export function resolvePredictionType(
  path: string,
  declared: DeclaredPrediction | null,
  vParameterization: boolean | undefined,
): { predictionType: PredictionType; predictionTypeSource: PredictionTypeSource } {
  const asked: PredictionType | null =
    vParameterization === undefined ? null : vParameterization ? "v_prediction" : "epsilon";
  if (declared?.source === "scheduler" && asked !== null && asked !== declared.predictionType) {
    throw incompatible(
      path,
      `scheduler/scheduler_config.json says prediction_type ${declared.predictionType}, the option ` +
        `v_parameterization asks for ${asked}`,
      "Leave the option out to follow the checkpoint, or correct prediction_type in scheduler/scheduler_config.json.",
    );
  }
  if (asked !== null && declared?.source !== "scheduler") {
    return { predictionType: asked, predictionTypeSource: "option" };
  }
  if (declared !== null) {
    return { predictionType: declared.predictionType, predictionTypeSource: declared.source };
  }
  return { predictionType: "epsilon", predictionTypeSource: "default" };
}

/** `modelspec.prediction_type` of a single file (sai_model_spec 1.0: `epsilon` or `v`); null if absent or unknown. */
export function predictionFromMetadata(
  metadata: Readonly<Record<string, string>>,
): DeclaredPrediction | null {
  switch (metadata["modelspec.prediction_type"]) {
    case "epsilon":
      return { predictionType: "epsilon", source: "metadata" };
    case "v":
      return { predictionType: "v_prediction", source: "metadata" };
    default:
      return null;
  }
}
