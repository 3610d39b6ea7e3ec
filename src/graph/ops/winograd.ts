/**
 * Convolution with a 3x3 kernel by minimal filtering (Winograd 1980; Lavin and Gray 2015, arXiv:1509.09308).
 *
 * An image is cut into tiles of `m x m` results, which depend on `(m + 2) x (m + 2)` pixels. With the matrices of F(m x m, 3 x 3)
 *
 *   Y = Aᵀ [ (G w Gᵀ) ⊙ (Bᵀ d B) ] A
 *
 * per tile, summed over input channels inside the brackets. So for each of the `K = (m + 2)²` places of a tile there is one matrix
 * product over channels, and together these take `K / (9 m²)` of the multiplications of the convolution: 4/9 for m = 2, 1/4 for
 * m = 4. The transformations are convolutions with constant kernels over single channels.
 *
 * The gradient with respect to the image is the convolution of dY with the kernel turned by 180 degrees, its channel axes exchanged
 * (conv.ts). Turning every tile in place of the kernel is the same, so it needs no weights of its own: the taps of the constant
 * kernels are reversed, and the products are taken with `Uᵀ`.
 */

import { internalError } from "../../errors.js";
import type { Graph } from "../graph.js";
import { COMBINE_TAPS_EQUATION } from "../onnx/weight-recipe.js";
import { fixedShape, formatShape, type Shape, type Tensor } from "../tensor.js";
import { add } from "./elementwise.js";
import { reshape, transpose } from "./shape.js";

/** Results of a tile along one side, `m`. */
export type WinogradTile = 2 | 4;

/** Taps of the kernel along one side. */
const TAPS = 3;

/**
 * Where the polynomials of F(m, 3) are evaluated, infinity besides. The points of a tile of 4 decide its rounding errors. Measured
 * on normal numbers, 320 channels, relative to the root mean square of the results: {0, 1, -1, 2, -2} of the paper 3.1e-6 with a worst
 * case of 5e-5, these 1.5e-6 and 1.1e-5; a tile of 2 has 4.7e-7, the plain convolution 2e-7. (Which points are good: Barabasz et al.
 * 2020, arXiv:1803.10986.)
 */
const POINTS: Readonly<Record<WinogradTile, readonly number[]>> = {
  2: [0, 1, -1],
  4: [0, 3 / 4, -3 / 4, 3 / 2, -3 / 2],
};

/** Fewer products of one place of a tile do not keep the processor busy while the weights come from memory. */
const FEWEST_TILES = 64;

/**
 * `in * out / (in + out)` channels from which on a tile is faster than the convolution: below, the transformations take longer than
 * the multiplications they save. Measured on two cores (AMD Zen 3): 71 and 156.
 */
const FEWEST_CHANNELS: Readonly<Record<WinogradTile, number>> = { 2: 150, 4: 70 };

/**
 * Decides with which tile a 3x3 convolution of stride 1 and padding 1 is computed; null: directly.
 *
 * @param image - `[N, I, H, W]`
 * @param kernel - `[O, I, 3, 3]`
 */
export type TileChoice = (image: Shape, kernel: Shape) => WinogradTile | null;

/** Larger tiled images (of 512 channels at 256 x 256 and more) take more memory than the time is worth. */
const MOST_TILED_BYTES = 320 * 2 ** 20;

/** The fastest on a CPU. */
export const fastestTile: TileChoice = (image, kernel) =>
  TILES.find((tile) => isCut(image, kernel, tile) && isFast(image, kernel, tile)) ?? null;

/**
 * Tiles that cost no memory: transformed kernels have 16/9 of the weights' numbers with tiles of 2, and stand for two copies of them
 * (the other has its channel axes exchanged, for the gradient); with tiles of 4 it is 4 times as many.
 */
export const leanTile: TileChoice = (image, kernel) =>
  isCut(image, kernel, 2) && isFast(image, kernel, 2) ? 2 : null;

function isFast(image: Shape, kernel: Shape, tile: WinogradTile): boolean {
  const [batch, inputs, height, width] = fixedShape(image) as [number, number, number, number];
  const [outputs] = fixedShape(kernel) as [number];
  const channels = (inputs * outputs) / (inputs + outputs);
  const tiles = (batch * height * width) / tile ** 2;
  const tiledBytes =
    tiles * (tile + TAPS - 1) ** 2 * Math.max(inputs, outputs) * Float32Array.BYTES_PER_ELEMENT;
  return tiles >= FEWEST_TILES && channels >= FEWEST_CHANNELS[tile] && tiledBytes <= MOST_TILED_BYTES;
}

/** The largest that an image can be cut into, however small: for checks on small models. */
export const largestTile: TileChoice = (image, kernel) =>
  TILES.find((tile) => isCut(image, kernel, tile)) ?? null;

const TILES = [4, 2] as const;

function isCut(image: Shape, kernel: Shape, tile: WinogradTile): boolean {
  const [, , height, width] = fixedShape(image) as [number, number, number, number];
  const [, , kh, kw] = fixedShape(kernel);
  return kh === TAPS && kw === TAPS && height % tile === 0 && width % tile === 0;
}

/**
 * The weights of a convolution, transformed.
 *
 * @param w - `[O, I, 3, 3]`
 * @returns `U = G w Gᵀ`, `[K, O, I]`
 */
export function winogradKernel(graph: Graph, w: Tensor, tile: WinogradTile): Tensor {
  const [outputs, inputs] = fixedShape(w.shape) as [number, number];
  const { kernel } = transforms(tile);
  const places = (tile + 2) ** 2;
  return graph.node1({
    op: "Einsum",
    inputs: [graph.constant(kernel.flat(), "float32", [places, TAPS, TAPS]), w],
    attributes: { equation: COMBINE_TAPS_EQUATION },
    outputs: [{ shape: [places, outputs, inputs], dtype: w.dtype }],
  });
}

/**
 * The convolution of stride 1 and padding 1.
 *
 * @param x - `[N, I, H, W]`, sides multiples of the tile
 * @param kernel - {@link winogradKernel}, `[K, O, I]`
 * @param bias - `[O]`
 * @returns `[N, O, H, W]`
 */
export function winogradConv(
  graph: Graph,
  x: Tensor,
  kernel: Tensor,
  tile: WinogradTile,
  bias: Tensor | undefined,
): Tensor {
  const [batch, , height, width] = fixedShape(x.shape) as [number, number, number, number];
  const [places, outputs] = fixedShape(kernel.shape) as [number, number];
  const { image, result } = transforms(tile);
  const tiles = (height * width) / tile ** 2;
  const inPlaces = permuted(graph, tilePlaces(graph, x, image, tile), [2, 1, 0, 3]); // [K, I, N, T]
  const columns = reshape(graph, inPlaces, [places, kernel.shape[2]!, batch * tiles]);
  const products = reshape(graph, product(graph, kernel, columns), [places, outputs, batch, tiles]);
  const perTile = permuted(graph, products, [2, 1, 0, 3]);
  const y = joinTiles(graph, perTile, result, tile, [batch, outputs, height, width]);
  return bias === undefined ? y : add(graph, y, reshape(graph, bias, [1, outputs, 1, 1]));
}

/**
 * Gradient with respect to the image.
 *
 * @param dy - `[N, O, H, W]`
 * @param kernel - {@link winogradKernel}, `[K, O, I]`
 * @returns `[N, I, H, W]`
 */
export function winogradGradientX(graph: Graph, dy: Tensor, kernel: Tensor, tile: WinogradTile): Tensor {
  const [batch, outputs, height, width] = fixedShape(dy.shape) as [number, number, number, number];
  const [places, , inputs] = fixedShape(kernel.shape) as [number, number, number];
  const { image, result } = transforms(tile);
  const tiles = (height * width) / tile ** 2;
  const turned = (rows: readonly (readonly number[])[]) => rows.map((row) => [...row].reverse());
  // Tiles are rows here: the product with Uᵀ then reads U as it lies.
  const inPlaces = permuted(graph, tilePlaces(graph, dy, turned(image), tile), [2, 0, 3, 1]); // [K, N, T, O]
  const rows = reshape(graph, inPlaces, [places, batch * tiles, outputs]);
  const products = reshape(graph, product(graph, rows, kernel), [places, batch, tiles, inputs]);
  const perTile = permuted(graph, products, [1, 3, 0, 2]);
  return joinTiles(graph, perTile, turned(result), tile, [batch, inputs, height, width]);
}

/** A transposition without the axes of length 1: with them onnxruntime takes its slowest way, several times as long. */
function permuted(graph: Graph, x: Tensor, permutation: readonly number[]): Tensor {
  const shape = fixedShape(x.shape);
  const kept = permutation.filter((axis) => shape[axis] !== 1);
  const order = [...kept].sort((a, b) => a - b);
  const short = transpose(
    graph,
    reshape(
      graph,
      x,
      order.map((axis) => shape[axis]!),
    ),
    kept.map((axis) => order.indexOf(axis)),
  );
  return reshape(
    graph,
    short,
    permutation.map((axis) => shape[axis]!),
  );
}

function product(graph: Graph, a: Tensor, b: Tensor): Tensor {
  const shape = [a.shape[0]!, a.shape[1]!, b.shape[2]!];
  return graph.node1({ op: "MatMul", inputs: [a, b], outputs: [{ shape, dtype: a.dtype }] });
}

/**
 * `Bᵀ d B` of every tile of every channel.
 *
 * @param x - `[N, C, H, W]`
 * @param rows - `[K][K]`
 * @returns `[N, C, K, T]`
 */
function tilePlaces(
  graph: Graph,
  x: Tensor,
  rows: readonly (readonly number[])[],
  tile: WinogradTile,
): Tensor {
  const [batch, channels, height, width] = fixedShape(x.shape) as [number, number, number, number];
  if (height % tile !== 0 || width % tile !== 0) {
    throw internalError(`${formatShape(x.shape)} in tiles of ${tile}`);
  }
  const side = tile + TAPS - 1;
  const [down, across] = [height / tile, width / tile];
  const places = graph.node1({
    op: "Conv",
    inputs: [
      reshape(graph, x, [batch * channels, 1, height, width]),
      graph.constant(rows.flat(), "float32", [rows.length, 1, side, side]),
    ],
    attributes: {
      kernel_shape: [side, side],
      strides: [tile, tile],
      pads: [1, 1, 1, 1],
      dilations: [1, 1],
    },
    outputs: [{ shape: [batch * channels, rows.length, down, across], dtype: x.dtype }],
  });
  return reshape(graph, places, [batch, channels, rows.length, down * across]);
}

/**
 * `Aᵀ M A` of every tile, side by side.
 *
 * @param places - `[N, C, K, T]`
 * @param rows - `[K][m²]`
 * @param shape - `[N, C, H, W]`
 */
function joinTiles(
  graph: Graph,
  places: Tensor,
  rows: readonly (readonly number[])[],
  tile: WinogradTile,
  shape: readonly [number, number, number, number],
): Tensor {
  const [batch, channels, height, width] = shape;
  const joined = graph.node1({
    op: "ConvTranspose",
    inputs: [
      reshape(graph, places, [batch * channels, rows.length, height / tile, width / tile]),
      graph.constant(rows.flat(), "float32", [rows.length, 1, tile, tile]),
    ],
    attributes: { kernel_shape: [tile, tile], strides: [tile, tile] },
    outputs: [{ shape: [batch * channels, 1, height, width], dtype: places.dtype }],
  });
  return reshape(graph, joined, shape);
}

interface Transforms {
  /** `B ⊗ B`: for each place of a tile the weights of its pixels, `[K][K]`. */
  readonly image: readonly (readonly number[])[];
  /** `G ⊗ G`: for each place of a tile the weights of the taps, `[K][9]`. */
  readonly kernel: readonly (readonly number[])[];
  /** `A ⊗ A`: for each place of a tile its weights in the results, `[K][m²]`. */
  readonly result: readonly (readonly number[])[];
}

const known = new Map<WinogradTile, Transforms>();

function transforms(tile: WinogradTile): Transforms {
  let found = known.get(tile);
  if (found === undefined) {
    const { image, kernel, result } = filterMatrices(POINTS[tile], tile);
    found = { image: kronecker(image), kernel: kronecker(kernel), result: kronecker(result) };
    known.set(tile, found);
  }
  return found;
}

function kronecker(rows: readonly (readonly number[])[]): number[][] {
  return rows.flatMap((a) => rows.map((b) => a.flatMap((x) => b.map((y) => x * y))));
}

/**
 * The matrices of F(m, 3) after Toom and Cook: the filter as an interpolation of the product of two polynomials. Row `i` belongs to
 * point `a_i`, the last to infinity.
 *
 * - G: the kernel's polynomial at the point, divided by `Π_{j≠i} (a_i - a_j)`.
 * - Aᵀ's column: powers of the point.
 * - Bᵀ: coefficients of `Π_{j≠i} (x - a_j)`, for infinity those of `Π_j (x - a_j)`.
 */
function filterMatrices(points: readonly number[], tile: number) {
  const others = (index: number) => points.filter((_, other) => other !== index);
  const powers = (point: number, count: number) =>
    Array.from({ length: count }, (_, power) => point ** power);
  const last = (count: number) => Array.from({ length: count }, (_, power) => (power === count - 1 ? 1 : 0));
  /** Coefficients of the polynomial with these roots, the constant first, to the degree of all points. */
  const product = (roots: readonly number[]) => {
    const coefficients = new Array<number>(points.length + 1).fill(0);
    coefficients[0] = 1;
    for (const [degree, root] of roots.entries()) {
      for (let power = degree + 1; power >= 0; power--) {
        coefficients[power] = (coefficients[power - 1] ?? 0) - root * coefficients[power]!;
      }
    }
    return coefficients;
  };
  return {
    kernel: [
      ...points.map((point, index) => {
        const divisor = others(index).reduce((total, other) => total * (point - other), 1);
        return powers(point, TAPS).map((power) => power / divisor);
      }),
      last(TAPS),
    ],
    result: [...points.map((point) => powers(point, tile)), last(tile)],
    image: [...points.map((_, index) => product(others(index))), product(points)],
  };
}
