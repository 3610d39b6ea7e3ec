/** Text encoder, U-Net, loss and its gradients as one graph. */

import { gradients } from "../graph/gradient.js";
import { Graph } from "../graph/graph.js";
import { cast, mul, sub } from "../graph/ops/elementwise.js";
import { mean } from "../graph/ops/reduce.js";
import type { Tensor } from "../graph/tensor.js";
import type { Checkpoint } from "../models/checkpoint/types.js";
import { buildTextEncoder } from "../models/clip.js";
import { Layers, type LoraBranch } from "../models/layers.js";
import type { LoraTarget } from "../models/lora-targets.js";
import { buildUnet } from "../models/unet.js";
import { branchNames, downShape, upWidth } from "./factors.js";

/** What an execution is for: every purpose builds no more than it needs, but for `inspect`, which gives everything at once. */
export type Purpose = "predict" | "loss" | "train" | "inspect";

/** Types that a model can compute in. */
export type ComputeType = "float32" | "float16";

export interface DenoiserGraphOptions {
  checkpoint: Pick<Checkpoint, "unet" | "textEncoder">;
  /** Modules with a LoRA branch. */
  targets: readonly LoraTarget[];
  purpose: Purpose;
  /** Samples, and height and width of their latents. */
  batch: number;
  height: number;
  width: number;
  /** Tokens per prompt, 77. */
  tokens: number;
  /** Start from token ids and run the text encoder inside; otherwise from its output. */
  includeTextEncoder: boolean;
  /** See {@link buildTextEncoder}; default 1. */
  clipSkip?: number;
  gradientCheckpointing?: boolean;
  /** See {@link Layers}; must fit the mode of the session. */
  foldsConstants: boolean;
  /** See {@link Layers}; inputs and outputs are float32 in either case. Default float32. */
  computeType?: ComputeType;
  /** See {@link Graph}. Default float16. */
  halfProductType?: ComputeType;
}

export interface DenoiserGraph {
  graph: Graph;
  outputs: Record<string, Tensor>;
}

/**
 * Inputs: `sample` `[N, C, H, W]`, `timestep_embedding` `[N, …]`, `tokens` int64 `[N, T]` or `context` `[N * T, …]`, for a
 * loss `target` `[N, C, H, W]`, for gradients `loss_weight` `[N]`, and those of the LoRA branches (factors.ts).
 *
 * Outputs: `prediction` when that is the purpose; else `loss` `[N]`, the mean squared error of each sample; to train, the
 * gradient of `Σ loss_weight · loss` with respect to every factor. With the text encoder inside also `context`, unless
 * training. To inspect, all of them.
 */
export function buildDenoiserGraph(options: DenoiserGraphOptions): DenoiserGraph {
  const { checkpoint, targets, purpose, batch, height, width, tokens, includeTextEncoder } = options;
  const { config } = checkpoint.unet;
  const { foldsConstants, computeType = "float32", halfProductType = "float16" } = options;
  const graph = new Graph({ halfProductType });
  const trainable = purpose === "train" || purpose === "inspect";
  const branches = branchInputs(graph, targets, trainable);

  const sample = graph.input("sample", "float32", [batch, config.inChannels, height, width]);
  const timestepEmbedding = graph.input("timestep_embedding", "float32", [
    batch,
    config.blockOutChannels[0]!,
  ]);
  let context: Tensor;
  if (includeTextEncoder) {
    const layers = new Layers(graph, {
      namespace: "text_encoder",
      weights: checkpoint.textEncoder.weights,
      lora: branches.text_encoder,
      foldsConstants,
      computeType,
    });
    const ids = graph.input("tokens", "int64", [batch, tokens]);
    context = buildTextEncoder(layers, checkpoint.textEncoder.config, ids, options.clipSkip);
  } else {
    context = graph.input("context", "float32", [batch * tokens, config.crossAttentionDim]);
  }

  const unetLayers = new Layers(graph, {
    namespace: "unet",
    weights: checkpoint.unet.weights,
    lora: branches.unet,
    foldsConstants,
    computeType,
  });
  const typed = (tensor: Tensor) => cast(graph, tensor, computeType);
  const answer = buildUnet(
    unetLayers,
    config,
    {
      sample: typed(sample),
      timestepEmbedding: typed(timestepEmbedding),
      context: typed(context),
      contextTokens: tokens,
    },
    { gradientCheckpointing: trainable && options.gradientCheckpointing === true },
  );
  const prediction = cast(graph, answer, "float32");
  const outputs: Record<string, Tensor> =
    includeTextEncoder && purpose !== "train" ? { context: cast(graph, context, "float32") } : {};
  if (purpose === "predict" || purpose === "inspect") outputs.prediction = prediction;
  if (purpose === "predict") return { graph, outputs };

  const target = graph.input("target", "float32", prediction.shape);
  const error = sub(graph, prediction, target);
  const loss = mean(graph, mul(graph, error, error), [1, 2, 3], false);
  outputs.loss = loss;
  if (trainable) {
    const weight = graph.input("loss_weight", "float32", [batch]);
    Object.assign(outputs, factorGradients(graph, loss, weight, targets, branches));
  }
  return { graph, outputs };
}

type Branches = Record<LoraTarget["component"], Map<string, LoraBranch>>;

/** Declares the inputs of every target's branch; by component and the target's path. */
export function branchInputs(graph: Graph, targets: readonly LoraTarget[], trainable: boolean): Branches {
  const branches: Branches = { unet: new Map(), text_encoder: new Map() };
  for (const target of targets) {
    const names = branchNames(target);
    branches[target.component].set(target.path, {
      down: graph.input(names.down, "float32", [names.rank, ...downShape(target)], { trainable }),
      up: graph.input(names.up, "float32", [names.rank, upWidth(target)], { trainable }),
      scale: graph.input(names.scale, "float32", []),
    });
  }
  return branches;
}

function factorGradients(
  graph: Graph,
  loss: Tensor,
  weight: Tensor,
  targets: readonly LoraTarget[],
  branches: Branches,
): Record<string, Tensor> {
  const factors = targets.flatMap((target) => {
    const { down, up } = branches[target.component].get(target.path)!;
    const names = branchNames(target);
    return [
      { name: names.downGradient, tensor: down },
      { name: names.upGradient, tensor: up },
    ];
  });
  const found = gradients(
    graph,
    graph.operations,
    [{ tensor: loss, gradient: weight }],
    factors.map(({ tensor }) => tensor),
  );
  // No gradient: the module does not influence the loss (text encoder layers behind the clip skip).
  return Object.fromEntries(
    factors.flatMap(({ name }, position) => {
      const gradient = found[position];
      return gradient ? [[name, gradient] as const] : [];
    }),
  );
}
