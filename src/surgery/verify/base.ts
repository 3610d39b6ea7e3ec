/** Does the adapter fit a base model? */
import { type Adapter, COMPONENTS, type Component, readBaseModel } from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";
import { type ModelTarget, matchModules, openModelWeights } from "../merge/model.js";
import type { VerifyProblem } from "./verify.js";

/**
 * Compares module names and shapes with the base model's.
 *
 * @throws {DyloraError} as `openModelWeights`, for the base model
 */
export async function baseProblems(adapter: Adapter, basePath: string): Promise<VerifyProblem[]> {
  const model = await openModelWeights(basePath);
  const problems: VerifyProblem[] = [];
  try {
    const matched = new Set(matchModules(model, adapter.modules).values());
    problems.push({
      severity: "note",
      code: "base-coverage",
      message: `Fits ${basePath}: ${coverage(model.targets, matched)}.`,
      subjects: [],
    });
  } catch (error) {
    if (!(error instanceof DyloraError) || error.code !== "E_INCOMPATIBLE") throw error;
    const message = `${error.message}.${error.note === undefined ? "" : ` ${error.note}`}`;
    problems.push({ severity: "error", code: "base-mismatch", message, subjects: [] });
  }
  const { predictionType } = readBaseModel(adapter.metadata, adapter.modules);
  if (
    predictionType !== null &&
    model.predictionTypeSource !== "default" &&
    predictionType !== model.predictionType
  ) {
    problems.push({
      severity: "warning",
      code: "base-prediction",
      message: `The adapter was trained for ${predictionType}, the base model predicts ${model.predictionType}.`,
      subjects: [],
    });
  }
  return problems;
}

const COMPONENT_NAMES: Readonly<Record<Component, string>> = {
  unet: "U-Net",
  text_encoder: "text encoder",
  text_encoder_2: "second text encoder",
};

function coverage(targets: readonly ModelTarget[], matched: ReadonlySet<ModelTarget>): string {
  const parts = COMPONENTS.flatMap((component) => {
    const all = targets.filter((target) => target.component === component);
    const found = all.filter((target) => matched.has(target));
    return all.length === 0
      ? []
      : `${found.length} of ${all.length} modules of the ${COMPONENT_NAMES[component]}`;
  });
  return parts.join(", ");
}
