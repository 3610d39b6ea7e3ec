/** Text encoder, U-Net, loss and its gradients as one graph. */

import { gradients } from "../graph/gradient.js";
import { Graph } from "../graph/graph.js";
import { rounded, widened } from "../graph/half-products.js";
import { cast, mul, sub } from "../graph/ops/elementwise.js";
import { mean } from "../graph/ops/reduce.js";
import { leadingRows, type RowRange, reshape } from "../graph/ops/shape.js";
import type { TileChoice } from "../graph/ops/winograd.js";
import type { Tensor } from "../graph/tensor.js";
import type { Checkpoint } from "../models/checkpoint/types.js";
import { buildTextEncoder } from "../models/clip.js";
import { Layers, type LoraBranch } from "../models/layers.js";
import type { LoraTarget } from "../models/lora-targets.js";
import { buildUnet } from "../models/unet.js";
import { branchNames, downShape, downWidth, upWidth } from "./factors.js";

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
  /** See {@link Layers}. Default: no convolution. */
  convolutionTile?: TileChoice;
  /** See {@link Layers}; inputs and outputs are float32 in either case. Default float32. */
  computeType?: ComputeType;
  /** See {@link Graph}. Default float16. */
  halfProductType?: ComputeType;
  /**
   * Ranks of the modules by name: factors are fed whole, each run says which components take part, and gradients have all
   * components, too. Default: what is fed takes part.
   */
  wholeFactors?: ReadonlyMap<string, number>;
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
  const { inputs: factorInputs, branches } =
    options.wholeFactors === undefined
      ? branchInputs(graph, targets, trainable)
      : wholeBranchInputs(graph, targets, options.wholeFactors);

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
    ...(options.convolutionTile === undefined ? {} : { convolutionTile: options.convolutionTile }),
    computeType,
  });
  const typed = (tensor: Tensor) => rounded(graph, tensor, computeType);
  const answer = buildUnet(
    unetLayers,
    config,
    {
      sample: typed(sample),
      timestepEmbedding: typed(timestepEmbedding),
      // Float32 where products are, with the keys and values made of it: few numbers, and much alike from token to token. It is
      // their differences that gradients see.
      context: cast(graph, context, graph.productType(computeType)),
      contextTokens: tokens,
    },
    { gradientCheckpointing: trainable && options.gradientCheckpointing === true },
  );
  const prediction = widened(graph, answer);
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
    Object.assign(outputs, factorGradients(graph, loss, weight, targets, factorInputs));
  }
  return { graph, outputs };
}

type Branches = Record<LoraTarget["component"], Map<string, LoraBranch>>;

/** Both factors of a module as inputs of the graph, by the target's name. */
type FactorInputs = ReadonlyMap<string, Pick<LoraBranch, "down" | "up">>;

interface BranchInputs {
  inputs: FactorInputs;
  /** By component and the target's path. */
  branches: Branches;
}

/** Declares the inputs of every target's branch. */
export function branchInputs(graph: Graph, targets: readonly LoraTarget[], trainable: boolean): BranchInputs {
  return collectBranches(targets, (target) => {
    const names = branchNames(target);
    const branch = {
      down: graph.input(names.down, "float32", [names.rank, ...downShape(target)], { trainable }),
      up: graph.input(names.up, "float32", [names.rank, upWidth(target)], { trainable }),
      scale: graph.input(names.scale, "float32", []),
    };
    return { inputs: branch, branch };
  });
}

/** The same with whole factors, as matrices, and with the components that take part. */
function wholeBranchInputs(
  graph: Graph,
  targets: readonly LoraTarget[],
  ranks: ReadonlyMap<string, number>,
): BranchInputs {
  return collectBranches(targets, (target) => {
    const names = branchNames(target);
    const rank = ranks.get(target.name)!;
    const factor = (name: string, width: number) =>
      graph.input(name, "float32", [rank, width], { trainable: true });
    const inputs = { down: factor(names.down, downWidth(target)), up: factor(names.up, upWidth(target)) };
    const range: RowRange = {
      end: graph.input(names.rowsEnd, "int64", [1]),
      trainedBegin: graph.input(names.rowsTrainedBegin, "int64", [1]),
      untrained: graph.input(names.rowsUntrained, "int64", [4]),
    };
    const down = leadingRows(graph, inputs.down, range, names.rank);
    const branch = {
      down: reshape(graph, down, [names.rank, ...downShape(target)]),
      up: leadingRows(graph, inputs.up, range, names.rank),
      scale: graph.input(names.scale, "float32", []),
    };
    return { inputs, branch };
  });
}

function collectBranches(
  targets: readonly LoraTarget[],
  declare: (target: LoraTarget) => { inputs: Pick<LoraBranch, "down" | "up">; branch: LoraBranch },
): BranchInputs {
  const collected = new Map<string, Pick<LoraBranch, "down" | "up">>();
  const branches: Branches = { unet: new Map(), text_encoder: new Map() };
  for (const target of targets) {
    const { inputs, branch } = declare(target);
    collected.set(target.name, inputs);
    branches[target.component].set(target.path, branch);
  }
  return { inputs: collected, branches };
}

function factorGradients(
  graph: Graph,
  loss: Tensor,
  weight: Tensor,
  targets: readonly LoraTarget[],
  inputs: FactorInputs,
): Record<string, Tensor> {
  const factors = targets.flatMap((target) => {
    const { down, up } = inputs.get(target.name)!;
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
