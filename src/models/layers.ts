/** The layers of the models over named weights of the base model, with a LoRA branch where a module has one. */

import { internalError } from "../errors.js";
import type { Graph } from "../graph/graph.js";
import { conv2d } from "../graph/ops/conv.js";
import { add, cast, mul } from "../graph/ops/elementwise.js";
import { gemm } from "../graph/ops/matmul.js";
import { type GroupNormOptions, groupNorm, layerNorm } from "../graph/ops/norm.js";
import { gatherRows, reshape, transpose } from "../graph/ops/shape.js";
import type { TileChoice } from "../graph/ops/winograd.js";
import { type ElementType, fixedShape, type Tensor } from "../graph/tensor.js";
import type { WeightRef } from "./checkpoint/types.js";

/** The two factors of a LoRA as inputs of a graph; `b` is the active rank (symbolic). */
export interface LoraBranch {
  /** `[b, in]`; of a 3x3 convolution `[b, in, 3, 3]`. */
  readonly down: Tensor;
  /** `[b, out]`: the transpose of `lora_up.weight`, so that a rank prefix is contiguous in both factors. */
  readonly up: Tensor;
  /** `alpha / b`, `[]`. */
  readonly scale: Tensor;
}

/** LoRA branches by canonical module path. */
export type LoraBranches = ReadonlyMap<string, LoraBranch>;

export interface LayersOptions {
  /** Prefix of weight names in the graph, so that several models fit into one. */
  namespace: string;
  weights: ReadonlyMap<string, WeightRef>;
  lora?: LoraBranches;
  /**
   * Type of activations and weights. Default float32. With float16 normalizations, attention and the gradients of LoRA factors
   * are computed in float32 all the same, and products as {@link Graph.productType} says.
   */
  computeType?: ElementType;
  /**
   * Whether the session converts constants once, when it is created (fast mode). Decides the order of picking rows out of
   * a table and converting them. Default false.
   */
  foldsConstants?: boolean;
  /** Which 3x3 convolutions are computed in tiles. Default: none. */
  convolutionTile?: TileChoice;
}

const ELEMENT_TYPE = { F32: "float32", F16: "float16", BF16: "bfloat16" } as const;

export class Layers {
  readonly graph: Graph;
  readonly computeType: ElementType;
  readonly #namespace: string;
  readonly #weights: ReadonlyMap<string, WeightRef>;
  readonly #lora: LoraBranches;
  readonly #foldsConstants: boolean;
  readonly #convolutionTile: TileChoice;
  readonly #loaded = new Map<string, Tensor>();

  constructor(graph: Graph, options: LayersOptions) {
    this.graph = graph;
    this.computeType = options.computeType ?? "float32";
    this.#namespace = options.namespace;
    this.#weights = options.weights;
    this.#lora = options.lora ?? new Map();
    this.#foldsConstants = options.foldsConstants ?? false;
    this.#convolutionTile = options.convolutionTile ?? (() => null);
  }

  has(name: string): boolean {
    return this.#weights.has(name);
  }

  /** A weight in the type it is stored in. */
  stored(name: string): Tensor {
    const known = this.#loaded.get(name);
    if (known !== undefined) return known;
    const ref = this.#weights.get(name);
    if (ref === undefined)
      throw internalError(`the model asks for a weight ${name} that the checkpoint lacks`);
    const dtype = ELEMENT_TYPE[ref.dtype as keyof typeof ELEMENT_TYPE];
    if (dtype === undefined) throw internalError(`weight ${name} has type ${ref.dtype}`);
    const tensor = this.graph.external(`${this.#namespace}.${name}`, dtype, ref.shape, ref);
    this.#loaded.set(name, tensor);
    return tensor;
  }

  /** A weight in the type that the model computes in. */
  weight(name: string): Tensor {
    return cast(this.graph, this.stored(name), this.computeType);
  }

  /** A weight or bias of a product: as it is stored, where the product would convert it in any case. */
  #operand(name: string): Tensor {
    const stored = this.stored(name);
    if (stored.dtype === this.computeType) return stored;
    return cast(this.graph, stored, this.graph.productType(this.computeType));
  }

  /** Scale and shift of a normalization: those are computed in float32 always. */
  #normWeights(path: string): [Tensor, Tensor] {
    const float32 = (name: string) => cast(this.graph, this.stored(name), "float32");
    return [float32(`${path}.weight`), float32(`${path}.bias`)];
  }

  /**
   * Rows of an embedding table.
   *
   * @param indices - int64 `[...]`
   * @returns `[..., width]`
   */
  embedding(path: string, indices: Tensor): Tensor {
    const name = `${path}.weight`;
    if (this.#foldsConstants) return gatherRows(this.graph, this.weight(name), indices);
    // Rows first: the table is hundreds of times what a prompt needs, and would be converted at every execution.
    return cast(this.graph, gatherRows(this.graph, this.stored(name), indices), this.computeType);
  }

  #bias(path: string): Tensor | undefined {
    return this.has(`${path}.bias`) ? this.#operand(`${path}.bias`) : undefined;
  }

  /**
   * `y = x Wᵀ + b`, plus `scale * (x downᵀ) up` where the module has a LoRA (Hu et al. 2021, arXiv:2106.09685, eq. 3).
   *
   * A 1x1 convolution is the same on pixels as rows; its weight may be stored as `[out, in, 1, 1]`.
   *
   * @param x - `[T, in]`, one row per token
   * @returns `[T, out]`, of the type of `x`
   */
  linear(path: string, x: Tensor): Tensor {
    const { graph } = this;
    const stored = this.#operand(`${path}.weight`);
    const weight = reshape(graph, stored, stored.shape.slice(0, 2));
    const branch = this.#lora.get(path);
    // Between base and branch, and inside the branch, nothing is rounded.
    const result = branch === undefined ? x.dtype : graph.productType(x.dtype);
    const y = gemm(graph, x, weight, { transB: true, c: this.#bias(path), result });
    if (branch === undefined) return y;
    const hidden = gemm(graph, x, branch.down, { transB: true, result });
    const scaled = mul(graph, hidden, cast(graph, branch.scale, result));
    return gemm(graph, scaled, branch.up, { c: y, result: x.dtype });
  }

  /**
   * A convolution, plus its LoRA: `down` has the kernel and stride of the module, `up` is 1x1.
   *
   * @param x - `[N, in, H, W]`
   */
  conv(
    path: string,
    x: Tensor,
    options: { stride?: number; padding?: number | readonly [number, number, number, number] } = {},
  ): Tensor {
    const { graph } = this;
    const weight = this.#operand(`${path}.weight`);
    const bias = this.#bias(path);
    const branch = this.#lora.get(path);
    const result = branch === undefined ? x.dtype : graph.productType(x.dtype);
    const canBeCut = options.padding === 1 && (options.stride ?? 1) === 1;
    const y = conv2d(graph, x, weight, {
      ...options,
      bias,
      weightIsFolded: this.#foldsConstants,
      winograd: canBeCut ? this.#convolutionTile(x.shape, weight.shape) : null,
      result,
    });
    if (branch === undefined) return y;
    const { down, up } = branch;
    const scale = cast(graph, branch.scale, result);
    const kernel = down.shape.length === 4 ? down : reshape(graph, down, [...down.shape, 1, 1]);
    const hidden = mul(graph, conv2d(graph, x, kernel, { ...options, result }), scale);
    const [rank, out] = up.shape as [string, number];
    const pointwise = reshape(graph, transpose(graph, up, [1, 0]), [out, rank, 1, 1]);
    return cast(graph, add(graph, y, conv2d(graph, hidden, pointwise)), x.dtype);
  }

  groupNorm(path: string, x: Tensor, options: GroupNormOptions): Tensor {
    return groupNorm(this.graph, x, ...this.#normWeights(path), options);
  }

  layerNorm(path: string, x: Tensor, eps = 1e-5, result: ElementType = x.dtype): Tensor {
    return layerNorm(this.graph, x, ...this.#normWeights(path), eps, result);
  }
}

/** `[N, C, H, W]` to `[N * H * W, C]`. */
export function imageToTokens(graph: Graph, x: Tensor): Tensor {
  const [n, channels, height, width] = fixedShape(x.shape) as [number, number, number, number];
  const rows = transpose(graph, reshape(graph, x, [n, channels, height * width]), [0, 2, 1]);
  return reshape(graph, rows, [n * height * width, channels]);
}

/** `[N * H * W, C]` to `[N, C, H, W]`. */
export function tokensToImage(graph: Graph, x: Tensor, shape: readonly number[]): Tensor {
  const [n, , height, width] = shape as [number, number, number, number];
  const channels = x.shape[1]!;
  const planes = transpose(graph, reshape(graph, x, [n, height * width, channels]), [0, 2, 1]);
  return reshape(graph, planes, [n, channels, height, width]);
}
