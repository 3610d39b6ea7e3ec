/** Opening a Stable Diffusion checkpoint, whatever its layout. */
import { stat } from "node:fs/promises";
import { DyloraError } from "../../errors.js";
import { readError } from "../../io/file-error.js";
import { baseModelVersion, type ModelVersion } from "../config.js";
import { openDiffusersFolder } from "./diffusers-folder.js";
import { resolvePredictionType } from "./prediction-type.js";
import { incompatible } from "./problem.js";
import { openSingleFile } from "./single-file.js";
import { openVae } from "./standalone-vae.js";
import type { Checkpoint, OpenCheckpointOptions } from "./types.js";

/**
 * Opens a Stable Diffusion 1.x or 2.x checkpoint: a .safetensors file with the original names, or a diffusers folder.
 * Reads headers and configs only; weights stay where they are and are handed out as references under canonical names.
 *
 * @throws {DyloraError} `E_NOT_FOUND` / `E_READ` if it is not there or unreadable; `E_FORMAT` if a file is damaged;
 *   `E_INCOMPATIBLE` if it is something else (a pickle, an adapter, SDXL, …), incomplete, contradicts its own config, or
 *   contradicts the options
 */
export async function openCheckpoint(path: string, options: OpenCheckpointOptions = {}): Promise<Checkpoint> {
  const layout = (await statCheckpoint(path)).isDirectory() ? "diffusers" : "single-file";
  const openParts = layout === "diffusers" ? openDiffusersFolder : openSingleFile;
  const parts = await openParts(path, options.vaePath === undefined);
  const { version, unet, textEncoder, declaredPrediction, tokenizerDir } = parts;
  requireVersion(path, version, options.v2);
  const vae = options.vaePath === undefined ? parts.vae : await openVae(options.vaePath);
  const [contextWidth, textWidth] = [unet.config.crossAttentionDim, textEncoder.config.hiddenSize];
  if (contextWidth !== textWidth) {
    throw mixedParts(
      path,
      `the U-Net reads text embeddings of width ${contextWidth}, the text encoder makes ${textWidth}`,
    );
  }
  const [unetChannels, vaeChannels] = [unet.config.inChannels, vae?.config.latentChannels];
  if (vaeChannels !== undefined && unetChannels !== vaeChannels) {
    const name = options.vaePath === undefined ? "the VAE" : `the VAE ${options.vaePath}`;
    throw mixedParts(
      path,
      `the U-Net takes latents of ${unetChannels} channels, ${name} makes ${vaeChannels}`,
    );
  }
  const prediction = resolvePredictionType(path, declaredPrediction, options.vParameterization);
  return {
    path,
    layout,
    version,
    unet,
    textEncoder,
    vae,
    ...prediction,
    baseModelVersion: baseModelVersion(version, prediction.predictionType),
    tokenizerDir,
  };
}

async function statCheckpoint(path: string) {
  try {
    return await stat(path);
  } catch (cause) {
    const error = readError(path, cause);
    if (error.code !== "E_NOT_FOUND") throw error;
    throw new DyloraError("E_NOT_FOUND", `open checkpoint ${path}: no such file or folder`, {
      note:
        "Models are not downloaded. Give the path of a .safetensors file, or of a folder that holds unet/ and " +
        "text_encoder/.",
      cause,
    });
  }
}

function requireVersion(path: string, version: ModelVersion, v2: boolean | undefined): void {
  if (v2 === undefined || v2 === (version === "sd2")) return;
  throw incompatible(
    path,
    `this is a Stable Diffusion ${version === "sd2" ? "2.x" : "1.x"} checkpoint, but v2 is ${v2}`,
    v2
      ? "Leave --v2 out, or give a Stable Diffusion 2.x checkpoint."
      : "Leave v2 = false out, or give a Stable Diffusion 1.x checkpoint.",
  );
}

function mixedParts(path: string, problem: string): DyloraError {
  return incompatible(
    path,
    problem,
    "Parts of different models were mixed. Give parts that belong together.",
  );
}
