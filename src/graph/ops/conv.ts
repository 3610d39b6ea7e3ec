/**
 * Two-dimensional convolution.
 *
 * With y[n,o,p] = Σ_{i,k} x[n,i, s p + k - pad] w[o,i,k]:
 *
 * - dX is ConvTranspose. For stride 1 it is also a convolution: dX[n,i,q] = Σ_{o,k} dY[n,o, q + pad - k] w[o,i,k], that is
 *   dY convolved with w, its channel axes exchanged and its taps reversed, padded by kernel - 1 - pad. onnxruntime's Conv
 *   takes half to three quarters of the time of its ConvTranspose, but exchanging the axes of all weights of a U-Net takes
 *   longer than that saves: only sessions that do it once, ahead of time, gain. Images are turned by 180 degrees, before and
 *   after, in place of the taps: 13 ms of 3.6 s, where turning weights takes another copy of them when a session is made. (On
 *   WebGPU, Mesa's lavapipe, all of it included, Conv takes half to all of the time of ConvTranspose.)
 * - dW[o,i,k] = Σ_{n,p} dY[n,o,p] x[n,i, s p + k - pad]: x with batch and channels exchanged, convolved with dY (batch and
 *   channels exchanged) as the kernel, whose taps lie s apart (dilation).
 */

import { internalError } from "../../errors.js";
import type { Graph } from "../graph.js";
import { operand, operandAgain, rounded } from "../half-products.js";
import { type Dim, type ElementType, fixedShape, formatShape, type Tensor } from "../tensor.js";
import { cast } from "./elementwise.js";
import { sum } from "./reduce.js";
import { reshape, reverse, slice, transpose } from "./shape.js";
import { type WinogradTile, winogradConv, winogradGradientX, winogradKernel } from "./winograd.js";

export interface ConvOptions {
  /** Default 1. */
  stride?: number;
  /** Zeros around the image: one number, or [top, left, bottom, right]. Default 0. */
  padding?: number | readonly [number, number, number, number];
  /** `[O]`. */
  bias?: Tensor | undefined;
  /** `w` is constant, and the session computes what depends on constants alone ahead of time. Default false. */
  weightIsFolded?: boolean;
  /** Compute it in tiles of this size (winograd.ts). For 3x3 kernels, stride 1, padding 1, float32. Default: directly. */
  winograd?: WinogradTile | null | undefined;
  /** Type of the result; default: that of `x`. */
  result?: ElementType | undefined;
}

type Pads = readonly [number, number, number, number];

/**
 * Convolution of images.
 *
 * The operands may have different types (float16 activations, a float32 LoRA factor). The product is computed in
 * {@link Graph.productType} of `x`, the gradient of each operand in its own type if that has more digits.
 *
 * @param x - `[N, I, H, W]`
 * @param w - `[O, I, kh, kw]`; `O` may be symbolic
 * @returns `[N, O, H', W']` with `H' = floor((H + top + bottom - kh) / stride) + 1`
 */
export function conv2d(graph: Graph, x: Tensor, w: Tensor, options: ConvOptions = {}): Tensor {
  const {
    stride = 1,
    padding = 0,
    bias,
    weightIsFolded = false,
    winograd = null,
    result = x.dtype,
  } = options;
  const pads: Pads = typeof padding === "number" ? [padding, padding, padding, padding] : padding;
  if (x.shape.length !== 4 || w.shape.length !== 4 || x.shape[1] !== w.shape[1]) {
    throw internalError(`conv2d of ${formatShape(x.shape)} with ${formatShape(w.shape)}`);
  }
  if (winograd !== null) {
    if (stride !== 1 || pads.some((pad) => pad !== 1) || x.dtype !== "float32") {
      throw internalError(`conv2d in tiles with stride ${stride}, padding ${pads.join(", ")}, ${x.dtype}`);
    }
    return conv2dInTiles(graph, x, w, winograd, bias);
  }
  const type = graph.productType(x.dtype);
  // float16 is for GPUs, where exchanging the axes is nothing beside the convolution.
  const asConv = stride === 1 && (weightIsFolded || x.dtype === "float16");
  return graph.operation1(
    "conv2d",
    bias === undefined ? [x, w] : [x, w, bias],
    () => {
      const operands = [x, w].map((tensor) => operand(graph, tensor, type)) as [Tensor, Tensor];
      const addend = bias && operand(graph, bias, type);
      return rounded(
        graph,
        convNode(graph, ...operands, { stride, pads, dilation: 1, bias: addend }),
        result,
      );
    },
    (dy, [wantX, wantW, wantBias]) => {
      const again = (tensor: Tensor, as: ElementType) => operandAgain(graph, tensor, as);
      const weightType = graph.productType(w.dtype);
      return [
        wantX ? convGradientX(graph, again(dy, type), x, again(w, type), { stride, pads, asConv }) : null,
        wantW ? convGradientW(graph, again(dy, weightType), again(x, weightType), w, stride, pads) : null,
        wantBias ? cast(graph, reshape(graph, sum(graph, dy, [0, 2, 3]), bias!.shape), bias!.dtype) : null,
      ];
    },
  );
}

function conv2dInTiles(
  graph: Graph,
  x: Tensor,
  w: Tensor,
  tile: WinogradTile,
  bias: Tensor | undefined,
): Tensor {
  let kernel!: Tensor;
  return graph.operation1(
    "conv2d",
    bias === undefined ? [x, w] : [x, w, bias],
    () => {
      kernel = winogradKernel(graph, w, tile);
      return winogradConv(graph, x, kernel, tile, bias);
    },
    (dy, [wantX, wantW, wantBias]) => [
      wantX ? winogradGradientX(graph, dy, kernel, tile) : null,
      wantW ? convGradientW(graph, dy, x, w, 1, [1, 1, 1, 1]) : null,
      wantBias ? reshape(graph, sum(graph, dy, [0, 2, 3]), bias!.shape) : null,
    ],
  );
}

interface ConvNodeOptions {
  stride: number;
  pads: Pads;
  dilation: number;
  bias?: Tensor | undefined;
}

function convNode(graph: Graph, x: Tensor, w: Tensor, options: ConvNodeOptions): Tensor {
  const { stride, pads, dilation, bias } = options;
  const [height, width] = fixedShape(x.shape.slice(2)) as [number, number];
  const [kh, kw] = fixedShape(w.shape.slice(2)) as [number, number];
  const outLength = (length: number, kernel: number, padding: number) =>
    Math.floor((length + padding - dilation * (kernel - 1) - 1) / stride) + 1;
  const shape: Dim[] = [
    x.shape[0]!,
    w.shape[0]!,
    outLength(height, kh, pads[0] + pads[2]),
    outLength(width, kw, pads[1] + pads[3]),
  ];
  return graph.node1({
    op: "Conv",
    inputs: bias === undefined ? [x, w] : [x, w, bias],
    attributes: {
      kernel_shape: [kh, kw],
      strides: [stride, stride],
      pads: [...pads],
      dilations: [dilation, dilation],
    },
    outputs: [{ shape, dtype: x.dtype }],
  });
}

/** `dy` and `w` in the type of the product; `x` says the shape and type of the result. */
function convGradientX(
  graph: Graph,
  dy: Tensor,
  x: Tensor,
  w: Tensor,
  { stride, pads, asConv }: { stride: number; pads: Pads; asConv: boolean },
): Tensor {
  const [kh, kw] = fixedShape(w.shape.slice(2)) as [number, number];
  const [top, left, bottom, right] = pads;
  if (asConv) {
    const isPointwise = kh === 1 && kw === 1;
    const turned = (tensor: Tensor) => (isPointwise ? tensor : reverse(graph, tensor, [2, 3]));
    const product = convNode(graph, turned(dy), transpose(graph, w, [1, 0, 2, 3]), {
      stride: 1,
      pads: [kh - 1 - bottom, kw - 1 - right, kh - 1 - top, kw - 1 - left],
      dilation: 1,
    });
    return rounded(graph, turned(product), x.dtype);
  }
  const [height, width] = fixedShape(x.shape.slice(2)) as [number, number];
  const [outHeight, outWidth] = fixedShape(dy.shape.slice(2)) as [number, number];
  // Rows that no tap reached at the far edge: the division in the output length rounded them away.
  const missing = (length: number, out: number, kernel: number, padding: number) =>
    length + padding - ((out - 1) * stride + kernel);
  const product = graph.node1({
    op: "ConvTranspose",
    inputs: [dy, w],
    attributes: {
      kernel_shape: [kh, kw],
      strides: [stride, stride],
      pads: [...pads],
      output_padding: [
        missing(height, outHeight, kh, top + bottom),
        missing(width, outWidth, kw, left + right),
      ],
    },
    outputs: [{ shape: x.shape, dtype: dy.dtype }],
  });
  return rounded(graph, product, x.dtype);
}

function convGradientW(graph: Graph, dy: Tensor, x: Tensor, w: Tensor, stride: number, pads: Pads): Tensor {
  const [kh, kw] = fixedShape(w.shape.slice(2)) as [number, number];
  const full = convNode(graph, transpose(graph, x, [1, 0, 2, 3]), transpose(graph, dy, [1, 0, 2, 3]), {
    stride: 1,
    pads,
    dilation: stride,
  });
  // Past the kernel's extent come the pixels that the stride left over.
  const taps = slice(graph, slice(graph, full, 2, 0, kh), 3, 0, kw);
  return cast(graph, transpose(graph, taps, [1, 0, 2, 3]), w.dtype);
}
