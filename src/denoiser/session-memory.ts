/** Memory of the sessions that a run makes, from their graphs, before any of them is made. */

import { CLIP_TOKENS } from "../data/index.js";
import { estimateActivationBytes } from "../graph/memory.js";
import type { Checkpoint } from "../models/checkpoint/types.js";
import { vaeDownsampleFactor } from "../models/config.js";
import type { DeviceName } from "../runtime/device.js";
import { weightUseOf } from "../runtime/graph-session.js";
import type { SessionMemory } from "../runtime/memory-estimate.js";
import { type ExecutionMode, usableMode } from "../runtime/session.js";
import { requireVae } from "./conditioning.js";
import type { Denoiser } from "./denoiser.js";
import type { Purpose } from "./denoiser-graph.js";
import { branchNames } from "./factors.js";
import { buildLatentDecoderGraph } from "./latent-decoder.js";
import { buildLatentEncoderGraph } from "./latent-encoder.js";
import { loweringPlan } from "./lowering-plan.js";
import { buildTextGraph } from "./text-conditioner.js";

/** Of images in pixels, or of latents. */
interface Size {
  readonly width: number;
  readonly height: number;
}

/**
 * @param run - `latents`: their size; `rankOf`: the largest rank of each target, by its name
 */
export function denoiserMemory(
  name: string,
  denoiser: Denoiser,
  run: { purpose: Purpose; batchSize: number; latents: Size; rankOf: ReadonlyMap<string, number> },
): SessionMemory {
  const size = { count: run.batchSize, ...run.latents };
  const { graph, outputs } = denoiser.graph(run.purpose, size, CLIP_TOKENS);
  const symbols = Object.fromEntries(
    denoiser.options.targets.map((target) => [branchNames(target).rank, run.rankOf.get(target.name) ?? 1]),
  );
  const memory = estimateActivationBytes(graph, outputs, {
    symbols,
    weightUse: loweringPlan(denoiser.options).weightUse,
  });
  return { name, memory, weights: "denoiser" };
}

export function latentEncoderMemory(
  checkpoint: Checkpoint,
  { device, mode = "fast" }: { device: DeviceName; mode?: ExecutionMode },
  { height, width }: Size,
): SessionMemory {
  const weightUse = weightUseOf(device, usableMode(device, mode));
  const { graph, outputs } = buildLatentEncoderGraph(requireVae(checkpoint), weightUse, height, width);
  const memory = estimateActivationBytes(graph, outputs, { symbols: {}, weightUse });
  return { name: "VAE encoder", memory, weights: "VAE encoder" };
}

/** @param latents - their size */
export function latentDecoderMemory(
  checkpoint: Checkpoint,
  device: DeviceName,
  { height, width }: Size,
): SessionMemory {
  const weightUse = weightUseOf(device, "fast");
  const { graph, outputs } = buildLatentDecoderGraph(requireVae(checkpoint), weightUse, height, width);
  return { name: "VAE decoder", memory: estimateActivationBytes(graph, outputs, { symbols: {}, weightUse }) };
}

export function textEncoderMemory(
  checkpoint: Checkpoint,
  { device, clipSkip }: { device: DeviceName; clipSkip: number },
): SessionMemory {
  const weightUse = weightUseOf(device, usableMode(device, "lean"));
  const { graph, outputs } = buildTextGraph(checkpoint.textEncoder, CLIP_TOKENS, {
    clipSkip,
    foldsConstants: weightUse !== "perUse",
  });
  return {
    name: "text encoder",
    memory: estimateActivationBytes(graph, outputs, { symbols: {}, weightUse }),
  };
}

/** Size of the latents of images. */
export function latentSize(checkpoint: Checkpoint, { height, width }: Size): Size {
  const factor = vaeDownsampleFactor(requireVae(checkpoint).config);
  return { height: height / factor, width: width / factor };
}
