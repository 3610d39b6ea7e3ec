/** The metadata of a LoRA that was made out of two checkpoints. */
import {
  type AdapterModuleSource,
  NETWORK_ARGS_KEY,
  pythonFloat,
  writeNetworkArgs,
} from "../../adapter/index.js";
import { buildModelSpec } from "../../adapter/model-spec.js";
import { sdModelHash } from "../../models/checkpoint/index.js";
import { dyloraVersion } from "../../version.js";
import { nameOf } from "../merge/metadata.js";
import type { ModelWeights } from "../merge/model.js";
import type { DiffOptions } from "./diff.js";

/** JSON: `{ base, tuned, rank, energy? }`. */
export const DIFF_KEY = "dylora_diff";

export async function diffMetadata(
  base: ModelWeights,
  tuned: ModelWeights,
  modules: readonly AdapterModuleSource[],
  options: DiffOptions,
): Promise<Record<string, string>> {
  const isVPrediction = tuned.predictionType === "v_prediction";
  const side = base.family === "sdxl" ? 1024 : base.family === "sd2" && isVPrediction ? 768 : 512;
  const title = nameOf(options.path);
  const shortHash = await sdModelHash(base.path);
  const ranks = new Set(modules.map(({ rank }) => rank));
  const dim = ranks.size === 1 ? String([...ranks][0]) : "Dynamic";
  const alpha = ranks.size === 1 ? pythonFloat([...ranks][0]!) : "Dynamic";
  const hasConvolutions = modules.some(({ kind }) => kind === "conv3x3");
  return {
    ss_v2: base.family === "sd2" ? "True" : "False",
    ss_base_model_version: tuned.version,
    ss_sd_model_name: nameOf(base.path),
    ...(shortHash === null ? {} : { ss_sd_model_hash: shortHash }),
    ss_network_module: "networks.lora",
    ss_network_dim: dim,
    ss_network_alpha: alpha,
    ...(hasConvolutions && ranks.size === 1
      ? { [NETWORK_ARGS_KEY]: writeNetworkArgs({ conv_dim: dim, conv_alpha: alpha }) }
      : {}),
    ss_output_name: title,
    ...buildModelSpec({
      baseModel: base.family,
      isVPrediction,
      resolution: [side, side],
      title,
      date: options.date ?? new Date(),
      implementationVersion: `dylora/${dyloraVersion()}`,
    }),
    [DIFF_KEY]: JSON.stringify({
      base: nameOf(base.path),
      tuned: nameOf(tuned.path),
      rank: options.rank,
      ...(options.convRank == null ? {} : { convRank: options.convRank }),
      ...(options.energy == null ? {} : { energy: options.energy }),
    }),
  };
}
