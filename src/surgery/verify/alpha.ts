/** Strengths that cannot be meant, and metadata that contradicts the tensors. */
import { type Adapter, BASE_MODEL_TITLES, type LoraModule, readBaseModel } from "../../adapter/index.js";
import type { VerifyProblem } from "./verify.js";

/** Trainers use alphas of 1 to twice the rank; beyond this scale a wrong alpha is likelier than a strong one. */
const LARGEST_USUAL_SCALE = 16;

export function alphaProblems({ modules, dialect }: Adapter): VerifyProblem[] {
  const problems: VerifyProblem[] = [];
  const add = (severity: VerifyProblem["severity"], code: string, found: LoraModule[], text: string) => {
    if (found.length === 0) return;
    const [{ name, alpha, rank }] = found as [LoraModule];
    const message = `${found.length} of ${modules.length} modules ${text} (${name}: alpha ${alpha}, rank ${rank}).`;
    problems.push({ severity, code, message, subjects: found.map((module) => module.name) });
  };
  const scale = ({ alpha, rank }: LoraModule) => alpha / rank;
  const matching = (test: (module: LoraModule) => boolean) => modules.filter(test);
  add(
    "warning",
    "alpha-zero",
    matching((module) => module.alpha === 0),
    "have alpha 0 and do nothing",
  );
  add(
    "warning",
    "alpha-negative",
    matching((module) => module.alpha < 0),
    "have a negative alpha and subtract",
  );
  add(
    "warning",
    "alpha-large",
    matching((module) => scale(module) > LARGEST_USUAL_SCALE),
    `have a strength alpha / rank above ${LARGEST_USUAL_SCALE}`,
  );
  // Other dialects have alphas elsewhere, or none at all.
  const without = matching(({ alphaTensor }) => dialect === "kohya" && alphaTensor === null);
  add("note", "alpha-missing", without, "have no alpha: loaders take the rank, strength 1");
  return problems;
}

/** `ss_network_dim` and `ss_network_alpha` against the tensors, the base model by name and by shape, `ss_network_args`. */
export function metadataProblems({ metadata, modules, maxRank, dylora }: Adapter): VerifyProblem[] {
  const problems: VerifyProblem[] = [];
  const warn = (code: string, message: string, ...subjects: string[]) =>
    problems.push({ severity: "warning", code, message, subjects });
  if (modules.length === 0) return problems;

  const statedDim = statedNumber(metadata.ss_network_dim);
  // 3x3 convolutions have a rank of their own, conv_dim.
  const ranks = new Set(modules.map(({ rank }) => rank));
  if (statedDim !== null && !ranks.has(statedDim)) {
    warn(
      "metadata-rank",
      `ss_network_dim is ${statedDim}, but no module has that rank; the largest is ${maxRank}.`,
      "ss_network_dim",
    );
  }
  const statedAlpha = statedNumber(metadata.ss_network_alpha);
  const alphas = modules.map(({ alpha }) => alpha);
  // float16 and bfloat16 round alpha; sd-scripts reads 0 as "the rank".
  const isNear = (alpha: number) => Math.abs(alpha - statedAlpha!) <= Math.abs(statedAlpha!) * 2 ** -8;
  if (statedAlpha !== null && statedAlpha !== 0 && !alphas.some(isNear)) {
    warn(
      "metadata-alpha",
      `ss_network_alpha is ${statedAlpha}, but no module has that alpha (the first has ${alphas[0]}).`,
      "ss_network_alpha",
    );
  }
  const { fromMetadata, fromShapes, stated } = readBaseModel(metadata, modules);
  if (fromMetadata !== null && fromShapes !== null && fromMetadata !== fromShapes) {
    warn(
      "metadata-base-model",
      `The metadata say ${stated}, but names and shapes are those of an adapter for ${BASE_MODEL_TITLES[fromShapes]}.`,
      "ss_base_model_version",
    );
  }
  for (const problem of dylora.problems)
    warn("metadata-network-args", `Metadata: ${problem}.`, "ss_network_args");
  return problems;
}

function statedNumber(text: string | undefined): number | null {
  if (text === undefined || text.trim() === "") return null;
  const value = Number(text);
  return Number.isFinite(value) ? value : null;
}
