/** Checkpoints in one .safetensors file with the original Stable Diffusion names. */
import type { ClipTextConfig, ModelVersion, UnetConfig, VaeConfig } from "../config.js";
import { clipWeightShapes, unetWeightShapes, vaeWeightShapes } from "../weight-shapes.js";
import { notACheckpoint, refuseConditionedUnet, refuseOtherArchitectures } from "./architectures.js";
import { collectWeights, refuseUnknownTensors } from "./collect-weights.js";
import {
  inferClipConfig,
  inferOpenClipConfig,
  inferUnetConfig,
  inferVaeConfig,
  type ShapeOf,
} from "./infer-config.js";
import {
  CLIP_PREFIX,
  clipOriginalNames,
  OPEN_CLIP_PREFIX,
  type OriginalNames,
  UNET_PREFIX,
  unetOriginalNames,
  VAE_PREFIX,
  vaeOriginalNames,
} from "./original-names.js";
import { predictionFromMetadata } from "./prediction-type.js";
import { incompatible } from "./problem.js";
import { readTensorFile, type TensorIndex } from "./tensor-index.js";
import type { CheckpointParts, ModelPart } from "./types.js";
import { validateClipConfig, validateUnetConfig, validateVaeConfig } from "./validate-config.js";

const SHAPES_FROM = "the sizes of the other tensors";

/** @param withVae - false: leave the VAE unread, because another one takes its place */
export async function openSingleFile(path: string, withVae: boolean): Promise<CheckpointParts> {
  const { tensors, metadata } = await readTensorFile(path);
  const names = [...tensors.keys()];
  refuseOtherArchitectures(path, names);
  if (!names.some((name) => name.startsWith(UNET_PREFIX))) throw notACheckpoint(path, names);
  const version = detectVersion(path, names);
  return {
    version,
    unet: unetPart(path, tensors, version),
    textEncoder: textEncoderPart(path, tensors, version),
    vae:
      withVae && names.some((name) => name.startsWith(VAE_PREFIX))
        ? vaePart(path, tensors, VAE_PREFIX)
        : null,
    declaredPrediction: predictionFromMetadata(metadata),
    tokenizerDir: null,
  };
}

/** The text encoder decides: some SD 2.x U-Nets were saved with the 1x1 convolutions of SD 1.x. */
function detectVersion(path: string, names: readonly string[]): ModelVersion {
  if (names.some((name) => name.startsWith(OPEN_CLIP_PREFIX))) return "sd2";
  if (names.some((name) => name.startsWith(CLIP_PREFIX))) return "sd1";
  throw incompatible(
    path,
    `the text encoder is missing: expected tensors named ${CLIP_PREFIX}* (SD 1.x) or ${OPEN_CLIP_PREFIX}* (SD 2.x)`,
    "The file holds a U-Net without text encoder. Give a full checkpoint.",
  );
}

function unetPart(path: string, tensors: TensorIndex, version: ModelVersion): ModelPart<UnetConfig> {
  const config = inferUnetConfig(path, shapesBehind(tensors, UNET_PREFIX), version);
  validateUnetConfig(path, config);
  refuseConditionedUnet(path, config.inChannels, config.outChannels);
  const names = unetOriginalNames(config);
  const weights = collectWeights({
    path,
    part: "U-Net",
    shapes: unetWeightShapes(config),
    shapesFrom: SHAPES_FROM,
    locate: locateOriginal(tensors, names),
  });
  const present = [...tensors.keys()].filter((name) => name.startsWith(UNET_PREFIX));
  refuseUnknownTensors(path, "U-Net", present, originalNameSet(names));
  return { config, weights };
}

function textEncoderPart(
  path: string,
  tensors: TensorIndex,
  version: ModelVersion,
): ModelPart<ClipTextConfig> {
  const prefix = version === "sd2" ? OPEN_CLIP_PREFIX : CLIP_PREFIX;
  const named = version === "sd2" ? tensors : withTextModelInfix(tensors);
  const shapeOf = shapesBehind(named, prefix);
  const config = version === "sd2" ? inferOpenClipConfig(path, shapeOf) : inferClipConfig(path, shapeOf);
  validateClipConfig(path, config);
  const weights = collectWeights({
    path,
    part: "text encoder",
    shapes: clipWeightShapes(config),
    shapesFrom: SHAPES_FROM,
    locate: locateOriginal(named, clipOriginalNames(config, version)),
  });
  return { config, weights };
}

/** Some SD 1.x files leave `text_model.` out; they get it back. */
function withTextModelInfix(tensors: TensorIndex): TensorIndex {
  const infix = `${CLIP_PREFIX}text_model.`;
  return new Map(
    [...tensors].map(([name, tensor]) => {
      const lacksInfix = name.startsWith(CLIP_PREFIX) && !name.startsWith(infix);
      return [lacksInfix ? infix + name.slice(CLIP_PREFIX.length) : name, tensor];
    }),
  );
}

/**
 * A VAE with original names.
 *
 * @param prefix - `first_stage_model.` inside a checkpoint, empty in a file of its own
 */
export function vaePart(path: string, tensors: TensorIndex, prefix: string): ModelPart<VaeConfig> {
  const config = inferVaeConfig(path, shapesBehind(tensors, prefix), "original");
  validateVaeConfig(path, config);
  const names = vaeOriginalNames(config, prefix);
  const weights = collectWeights({
    path,
    part: "VAE",
    shapes: vaeWeightShapes(config),
    shapesFrom: SHAPES_FROM,
    locate: locateOriginal(tensors, names),
    convAsLinear: true,
  });
  // Loss networks and EMA copies may lie beside encoder and decoder.
  const present = [...tensors.keys()].filter((name) => /^(en|de)coder\./.test(removePrefix(name, prefix)));
  refuseUnknownTensors(path, "VAE", present, originalNameSet(names));
  return { config, weights };
}

function removePrefix(name: string, prefix: string): string {
  return name.startsWith(prefix) ? name.slice(prefix.length) : "";
}

function shapesBehind(tensors: TensorIndex, prefix: string): ShapeOf {
  return (name) => tensors.get(prefix + name)?.info.shape;
}

function locateOriginal(tensors: TensorIndex, names: OriginalNames) {
  return (canonicalName: string) => {
    const original = names.get(canonicalName);
    const tensor = original === undefined ? undefined : tensors.get(original.name);
    return original === undefined || tensor === undefined ? undefined : { tensor, rows: original.rows };
  };
}

function originalNameSet(names: OriginalNames): ReadonlySet<string> {
  return new Set([...names.values()].map(({ name }) => name));
}
