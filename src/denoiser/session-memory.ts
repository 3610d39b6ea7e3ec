/** Memory of the sessions that a run makes, from their graphs, before any of them is made. */

import { CLIP_TOKENS } from "../data/index.js";
import type { Graph } from "../graph/graph.js";
import { estimateActivationBytes } from "../graph/memory.js";
import type { Tensor } from "../graph/tensor.js";
import type { Checkpoint } from "../models/checkpoint/types.js";
import { vaeDownsampleFactor } from "../models/config.js";
import type { DeviceName } from "../runtime/device.js";
import type { SessionMemory } from "../runtime/memory-estimate.js";
import { type ExecutionMode, usableMode } from "../runtime/session.js";
import { requireVae } from "./conditioning.js";
import type { Denoiser } from "./denoiser.js";
import { buildDenoiserGraph, type Purpose } from "./denoiser-graph.js";
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
  { options, includesTextEncoder }: Denoiser,
  run: { purpose: Purpose; batchSize: number; latents: Size; rankOf: ReadonlyMap<string, number> },
): SessionMemory {
  const { checkpoint, targets, clipSkip = 1, gradientCheckpointing = false } = options;
  const plan = loweringPlan(options, run.latents);
  const { graph, outputs } = buildDenoiserGraph({
    checkpoint,
    targets,
    purpose: run.purpose,
    batch: run.batchSize,
    height: run.latents.height,
    width: run.latents.width,
    tokens: CLIP_TOKENS,
    includeTextEncoder: includesTextEncoder,
    clipSkip,
    gradientCheckpointing,
    ...plan.graph,
  });
  const symbols = Object.fromEntries(
    targets.map((target) => [branchNames(target).rank, run.rankOf.get(target.name) ?? 1]),
  );
  const foldsAs = plan.graph.foldsConstants ? "fast" : "lean";
  return { ...sessionMemory(name, graph, outputs, foldsAs, symbols), weights: "denoiser" };
}

export function latentEncoderMemory(checkpoint: Checkpoint, { height, width }: Size): SessionMemory {
  const { graph, outputs } = buildLatentEncoderGraph(requireVae(checkpoint), height, width);
  return { ...sessionMemory("VAE encoder", graph, outputs, "fast", {}), weights: "VAE encoder" };
}

/** @param latents - their size */
export function latentDecoderMemory(checkpoint: Checkpoint, { height, width }: Size): SessionMemory {
  const { graph, outputs } = buildLatentDecoderGraph(requireVae(checkpoint), height, width);
  return sessionMemory("VAE decoder", graph, outputs, "fast", {});
}

export function textEncoderMemory(
  checkpoint: Checkpoint,
  { device, clipSkip }: { device: DeviceName; clipSkip: number },
): SessionMemory {
  const mode = usableMode(device, "lean");
  const { graph, outputs } = buildTextGraph(checkpoint.textEncoder, CLIP_TOKENS, {
    clipSkip,
    foldsConstants: mode === "fast",
  });
  return sessionMemory("text encoder", graph, outputs, mode, {});
}

/** Size of the latents of images. */
export function latentSize(checkpoint: Checkpoint, { height, width }: Size): Size {
  const factor = vaeDownsampleFactor(requireVae(checkpoint).config);
  return { height: height / factor, width: width / factor };
}

function sessionMemory(
  name: string,
  graph: Graph,
  outputs: Readonly<Record<string, Tensor>>,
  mode: ExecutionMode,
  symbols: Readonly<Record<string, number>>,
): SessionMemory {
  const memory = estimateActivationBytes(graph, outputs, {
    symbols,
    foldsConstants: mode === "fast",
    weightConversionPerUse: mode === "lean",
  });
  return { name, memory };
}
