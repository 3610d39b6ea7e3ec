/** DyLoRAs whose modules use no more components than was planted. */
import { type AdapterModuleSource, writeAdapter } from "../../src/adapter/index.js";
import type { WriteResult } from "../../src/safetensors/index.js";
import { randomValues } from "./random-adapter.js";

export interface PlantedModule {
  readonly name: string;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** Components that are not zero. */
  readonly used: number;
  /** Factor on the up factor. Default 1. */
  readonly strength?: number;
}

export const PLANTED_RANK = 16;
export const PLANTED_UNIT = 4;

/** The components behind the used ones are random on one side and zero on the other, as training leaves them. */
export async function writePlantedAdapter(
  path: string,
  modules: readonly PlantedModule[],
  { alphaRule = "paper" }: { readonly alphaRule?: string } = {},
): Promise<WriteResult> {
  const sources = modules.map((module, i): AdapterModuleSource => {
    const { name, inFeatures, outFeatures, used, strength = 1 } = module;
    const upT = randomValues(PLANTED_RANK * outFeatures, 2 * i + 1).map((value) => value * strength);
    upT.fill(0, used * outFeatures);
    const down = randomValues(PLANTED_RANK * inFeatures, 2 * i);
    return { name, kind: "linear", rank: PLANTED_RANK, alpha: 4, inFeatures, outFeatures, down, upT };
  });
  return writeAdapter(path, sources, {
    dtype: "F16",
    overwrite: true,
    metadata: {
      ss_network_module: "networks.dylora",
      ss_network_dim: String(PLANTED_RANK),
      ss_network_alpha: "4.0",
      ss_network_args: JSON.stringify({ unit: String(PLANTED_UNIT), alpha_rule: alphaRule, conv_dim: "8" }),
      ss_output_name: "planted",
    },
  });
}
