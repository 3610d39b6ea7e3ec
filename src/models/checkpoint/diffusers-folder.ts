/** Checkpoints as diffusers saves them: a folder with unet/, text_encoder/, vae/, tokenizer/ and scheduler/. */
import { join } from "node:path";
import type { DyloraError } from "../../errors.js";
import type { ClipTextConfig, UnetConfig, VaeConfig } from "../config.js";
import { clipWeightShapes, unetWeightShapes, vaeWeightShapes } from "../weight-shapes.js";
import { refuseConditionedUnet, unsupported } from "./architectures.js";
import { collectWeights, refuseUnknownTensors } from "./collect-weights.js";
import { ConfigFile } from "./config-file.js";
import {
  clipConfigFromDiffusers,
  predictionTypeFromDiffusers,
  unetConfigFromDiffusers,
  vaeConfigFromDiffusers,
} from "./diffusers-config.js";
import { exists, isFolder, listFolder } from "./paths.js";
import { incompatible } from "./problem.js";
import type { TensorIndex } from "./tensor-index.js";
import type { CheckpointParts, DeclaredPrediction, ModelPart } from "./types.js";
import { validateClipConfig, validateUnetConfig, validateVaeConfig } from "./validate-config.js";
import { readFolderTensors } from "./weight-files.js";

const MODEL_STEM = "diffusion_pytorch_model";
const TEXT_ENCODER_STEM = "model";

/** Pipelines that are named something else than what unet/config.json would say. */
const OTHER_PIPELINES: readonly (readonly [RegExp, string])[] = [
  [/XL/, "an SDXL model"],
  [/^StableDiffusion3/, "a Stable Diffusion 3 model"],
  [/^Flux/, "a Flux model"],
];

/** @param withVae - false: leave the VAE unread, because another one takes its place */
export async function openDiffusersFolder(path: string, withVae: boolean): Promise<CheckpointParts> {
  await refuseOtherPipelines(path);
  if (!(await isFolder(join(path, "unet")))) throw await missingUnet(path);
  if (!(await isFolder(join(path, "text_encoder")))) {
    throw incompatible(path, "the text encoder is missing: expected the folder text_encoder/", GET_AGAIN);
  }
  const unet = await unetPart(path);
  const textEncoder = await textEncoderPart(path);
  const hasVae = withVae && (await isFolder(join(path, "vae")));
  const tokenizerDir = join(path, "tokenizer");
  return {
    // As in single files, the text encoder decides.
    version: textEncoder.config.activation === "gelu" ? "sd2" : "sd1",
    unet,
    textEncoder,
    vae: hasVae ? await diffusersVaePart(path, "vae") : null,
    declaredPrediction: await predictionOfFolder(path),
    tokenizerDir: (await isFolder(tokenizerDir)) ? tokenizerDir : null,
  };
}

const GET_AGAIN = "The folder is incomplete. Get the checkpoint again, with all of its folders.";

async function refuseOtherPipelines(path: string): Promise<void> {
  const indexPath = join(path, "model_index.json");
  if (!(await exists(indexPath))) return;
  const className = (await ConfigFile.read(path, "model_index.json", indexPath)).string("_class_name", "");
  const other = OTHER_PIPELINES.find(([pattern]) => pattern.test(className));
  if (other !== undefined) throw unsupported(path, `${other[1]} (${className})`);
}

/** Why a folder is no diffusers checkpoint, for the places people point at by mistake. */
async function missingUnet(path: string): Promise<DyloraError> {
  if (await isFolder(join(path, "transformer"))) {
    return unsupported(path, "a model with a diffusion transformer instead of a U-Net");
  }
  const entries = await listFolder(path);
  if (entries.includes("snapshots")) {
    const snapshots = await listFolder(join(path, "snapshots"));
    return incompatible(
      path,
      "this is a repository folder of the Hugging Face cache, not a checkpoint",
      `Give the snapshot inside it: ${snapshots.map((name) => join(path, "snapshots", name)).join(" or ")}`,
    );
  }
  const single = entries.filter((name) => name.endsWith(".safetensors"));
  const hint =
    single.length > 0
      ? `Give one of the files in it (${single.slice(0, 3).join(", ")}), or a folder`
      : "Give a .safetensors file, or the folder";
  return incompatible(
    path,
    "the U-Net is missing: expected the folder unet/",
    `${hint} that holds unet/ and text_encoder/.`,
  );
}

async function unetPart(path: string): Promise<ModelPart<UnetConfig>> {
  const config = unetConfigFromDiffusers(await readConfig(path, "unet"));
  validateUnetConfig(path, config);
  refuseConditionedUnet(path, config.inChannels, config.outChannels);
  const tensors = await readFolderTensors(path, "unet", MODEL_STEM);
  const shapes = unetWeightShapes(config);
  const weights = collectWeights({
    path,
    part: "U-Net",
    shapes,
    shapesFrom: "unet/config.json",
    locate: (name) => located(tensors, name),
  });
  refuseUnknownTensors(path, "U-Net", tensors.keys(), new Set(shapes.keys()));
  return { config, weights };
}

async function textEncoderPart(path: string): Promise<ModelPart<ClipTextConfig>> {
  const config = clipConfigFromDiffusers(await readConfig(path, "text_encoder"));
  validateClipConfig(path, config);
  const tensors = await readFolderTensors(path, "text_encoder", TEXT_ENCODER_STEM);
  const weights = collectWeights({
    path,
    part: "text encoder",
    shapes: clipWeightShapes(config),
    shapesFrom: "text_encoder/config.json",
    // Some versions of transformers save without the outer module's name.
    locate: (name) => located(tensors, name, name.replace(/^text_model\./, "")),
  });
  return { config, weights };
}

/**
 * A VAE in diffusers' form.
 *
 * @param folder - the VAE's folder inside `root`; empty: `root` itself
 */
export async function diffusersVaePart(root: string, folder: string): Promise<ModelPart<VaeConfig>> {
  const config = vaeConfigFromDiffusers(await readConfig(root, folder));
  const tensors = await readFolderTensors(root, folder, MODEL_STEM);
  return diffusersVaeWeights(root, tensors, config, join(folder, "config.json"));
}

/** The attention's module names before diffusers 0.12. */
const LEGACY_VAE_ATTENTION: ReadonlyMap<string, string> = new Map([
  ["to_q", "query"],
  ["to_k", "key"],
  ["to_v", "value"],
  ["to_out.0", "proj_attn"],
]);

/** @param shapesFrom - where `config` comes from, for messages */
export function diffusersVaeWeights(
  path: string,
  tensors: TensorIndex,
  config: VaeConfig,
  shapesFrom: string,
): ModelPart<VaeConfig> {
  validateVaeConfig(path, config);
  const shapes = vaeWeightShapes(config);
  const known = new Set(shapes.keys());
  for (const name of shapes.keys()) known.add(legacyVaeName(name));
  const weights = collectWeights({
    path,
    part: "VAE",
    shapes,
    shapesFrom,
    locate: (name) => located(tensors, name, legacyVaeName(name)),
    convAsLinear: true,
  });
  const present = [...tensors.keys()].filter((name) => /^(en|de)coder\./.test(name));
  refuseUnknownTensors(path, "VAE", present, known);
  return { config, weights };
}

function legacyVaeName(name: string): string {
  const [, block, module, parameter] = /^(.*\.attentions\.0)\.(.+)\.(weight|bias)$/.exec(name) ?? [];
  const legacy = module === undefined ? undefined : LEGACY_VAE_ATTENTION.get(module);
  return legacy === undefined ? name : `${block}.${legacy}.${parameter}`;
}

/** What the scheduler's configuration in a diffusers folder says; null where there is none. Errors as `ConfigFile`. */
export async function predictionOfFolder(path: string): Promise<DeclaredPrediction | null> {
  const name = "scheduler/scheduler_config.json";
  const filePath = join(path, "scheduler", "scheduler_config.json");
  if (!(await exists(filePath))) return null;
  const predictionType = predictionTypeFromDiffusers(await ConfigFile.read(path, name, filePath));
  return { predictionType, source: "scheduler" };
}

function readConfig(root: string, folder: string): Promise<ConfigFile> {
  return ConfigFile.read(root, join(folder, "config.json"), join(root, folder, "config.json"));
}

function located(tensors: TensorIndex, ...names: readonly string[]) {
  for (const name of names) {
    const tensor = tensors.get(name);
    if (tensor !== undefined) return { tensor, rows: null };
  }
  return undefined;
}
