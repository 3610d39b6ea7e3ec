/** A base model as operations on files see it: its weights by name, and which of them adapters change. */
import { join } from "node:path";
import type { BaseModel, Component, LoraModule, ModuleKind } from "../../adapter/index.js";
import { checkAdapterFitsBase } from "../../models/base-match.js";
import {
  type Checkpoint,
  openCheckpoint,
  type WeightRef,
  type Weights,
} from "../../models/checkpoint/index.js";
import { isFolder } from "../../models/checkpoint/paths.js";
import { readTensorFile } from "../../models/checkpoint/tensor-index.js";
import type { LoraTarget } from "../../models/lora-targets.js";
import { loraTargets } from "../../models/lora-targets.js";

export type ModelPartName = Component | "vae";

/** A weight that adapters change. */
export interface ModelTarget {
  /** What kohya's dialect calls the module: the usual name first. */
  readonly names: readonly string[];
  readonly component: Component;
  readonly kind: ModuleKind;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** In the model's part of that component. */
  readonly weightName: string;
  readonly weight: WeightRef;
}

export interface ModelWeights {
  readonly path: string;
  readonly layout: "single-file" | "diffusers";
  readonly family: BaseModel;
  /** As in `ss_base_model_version`. */
  readonly version: string;
  readonly predictionType: Checkpoint["predictionType"];
  readonly predictionTypeSource: Checkpoint["predictionTypeSource"];
  /** Canonical names; SDXL's single files have their own, without the part's prefix. */
  readonly parts: ReadonlyMap<ModelPartName, Weights>;
  /** All that any adapter may change, 3x3 convolutions included. */
  readonly targets: readonly ModelTarget[];
}

/**
 * Opens a model of Stable Diffusion 1.x, 2.x or SDXL: a .safetensors file with the original names, or a diffusers folder.
 * Only headers and configs are read.
 *
 * @throws {DyloraError} as `openCheckpoint`
 */
export async function openModelWeights(path: string): Promise<ModelWeights> {
  if (await isSdxl(path)) {
    const { openSdxlWeights } = await import("./model-sdxl.js");
    return openSdxlWeights(path);
  }
  const checkpoint = await openCheckpoint(path);
  const { layout, version, unet, textEncoder, vae, predictionType, predictionTypeSource } = checkpoint;
  const parts = new Map<ModelPartName, Weights>([
    ["unet", unet.weights],
    ["text_encoder", textEncoder.weights],
    ...(vae === null ? [] : [["vae", vae.weights] as const]),
  ]);
  const targets = loraTargets({ unet: unet.config, textEncoder: textEncoder.config }, { convDim: true });
  return {
    path,
    layout,
    family: version,
    version: checkpoint.baseModelVersion,
    predictionType,
    predictionTypeSource,
    parts,
    targets: targets.map(({ name, path: modulePath, component, kind, inFeatures, outFeatures }) => {
      const weightName = `${modulePath}.weight`;
      const weight = parts.get(component)!.get(weightName)!;
      // diffusers' converter writes the prefix of SDXL's first text encoder for all models.
      const names = [name, ...(component === "text_encoder" ? [name.replace(/^lora_te_/, "lora_te1_")] : [])];
      return { names, component, kind, inFeatures, outFeatures, weightName, weight };
    }),
  };
}

async function isSdxl(path: string): Promise<boolean> {
  if (await isFolder(path)) return isFolder(join(path, "text_encoder_2"));
  // What cannot be read, `openCheckpoint` explains.
  const file = await readTensorFile(path).catch(() => null);
  return [...(file?.tensors.keys() ?? [])].some((name) => name.startsWith("conditioner.embedders.1."));
}

/**
 * Finds the weight of each module of an adapter.
 *
 * @returns by module name, in the adapter's order
 * @throws {DyloraError} `E_INCOMPATIBLE` for modules that the model does not have, or of other widths
 */
export function matchModules(
  model: ModelWeights,
  modules: readonly LoraModule[],
): ReadonlyMap<string, ModelTarget> {
  const byName = new Map(
    model.targets.flatMap((target) => target.names.map((name) => [name, target] as const)),
  );
  const named = [...byName].map(([name, { kind, component, inFeatures, outFeatures }]): LoraTarget => {
    // Only name, kind and widths are compared.
    return {
      name,
      kind,
      inFeatures,
      outFeatures,
      path: name,
      stride: 1,
      component: component === "unet" ? "unet" : "text_encoder",
    };
  });
  const { matched } = checkAdapterFitsBase(named, modules);
  return new Map(matched.map(({ module }) => [module.name, byName.get(module.name)!]));
}

/** Real paths of all weight files. */
export function weightFiles({ parts }: ModelWeights): Set<string> {
  const files = new Set<string>();
  for (const weights of parts.values()) {
    for (const { filePath } of weights.values()) files.add(filePath);
  }
  return files;
}
