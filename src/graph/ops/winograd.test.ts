import fc from "fast-check";
import { expect, test } from "vitest";
import { describeOperators, type OperatorCheck, testOperator } from "../../../test/helpers/check-gradient.js";
import { arrayOf, at, type ReferenceArray, sumOf } from "../../../test/helpers/reference-array.js";
import { conv2d } from "./conv.js";
import * as tiles from "./winograd.js";

const { fastestTile, largestTile, leanTile } = tiles;
type WinogradTile = tiles.WinogradTile;

/** y[n,o,p] = bias[o] + Σ_{i,k} x[n,i, p + k - 1] w[o,i,k], x zero outside the image. */
function reference(x: ReferenceArray, w: ReferenceArray, bias: ReferenceArray | undefined): ReferenceArray {
  const [n, inputs, height, width] = x.shape as [number, number, number, number];
  const pixel = (sample: number, channel: number, row: number, column: number) =>
    row < 0 || row >= height || column < 0 || column >= width
      ? 0
      : x.data[((sample * inputs + channel) * height + row) * width + column]!;
  return arrayOf([n, w.shape[0]!, height, width], ([sample, o, row, column]) => {
    const products = sumOf(inputs, (i) =>
      sumOf(9, (tap) => {
        const [k, l] = [Math.floor(tap / 3), tap % 3];
        return pixel(sample!, i, row! + k - 1, column! + l - 1) * w.data[(o! * inputs + i) * 9 + tap]!;
      }),
    );
    return products + (bias === undefined ? 0 : at(bias, o!));
  });
}

function check(tile: WinogradTile, bias: boolean, shape: readonly number[]): OperatorCheck {
  const [n, inputs, outputs, down, across] = shape as [number, number, number, number, number];
  return {
    inputs: {
      x: { shape: [n, inputs, tile * down, tile * across] },
      w: { shape: [outputs, inputs, 3, 3] },
      ...(bias ? { bias: { shape: [outputs] } } : {}),
    },
    build: (graph, { x, w, bias }) => conv2d(graph, x!, w!, { padding: 1, bias, winograd: tile }),
    reference: ({ x, w, bias }) => reference(x!, w!, bias),
  };
}

/** A convolution in tiles is what `conv2d` makes of these. */
const inTiles = (tile: WinogradTile) => () => {
  const small = fc.integer({ min: 1, max: 3 });
  testOperator(
    `tiles of ${tile}, images of one tile and more, samples side by side`,
    fc.record({
      bias: fc.boolean(),
      shape: fc.tuple(fc.integer({ min: 1, max: 2 }), small, small, small, small),
    }),
    ({ bias, shape }) => check(tile, bias, shape),
  );
};

describeOperators(tiles, {
  winogradConv: inTiles(2),
  winogradGradientX: inTiles(4),
  winogradKernel: () => {
    testOperator("every place of a tile", fc.constantFrom<WinogradTile>(2, 4), (tile) => ({
      inputs: { w: { shape: [2, 3, 3, 3], trainable: false } },
      build: (graph, { w }) => tiles.winogradKernel(graph, w!, tile),
      reference: ({ w }) => transformedKernels(w!, tile),
    }));
  },
  fastestTile: whichTiles,
  leanTile: leanTiles,
  largestTile: largestTiles,
});

/** `G w Gᵀ` with G of F(m, 3): the values of the kernel's polynomial at the points, divided by the products of their differences. */
function transformedKernels(w: ReferenceArray, tile: WinogradTile): ReferenceArray {
  const points = tile === 2 ? [0, 1, -1] : [0, 3 / 4, -3 / 4, 3 / 2, -3 / 2];
  const rows = points.map((point) => {
    const others = points.filter((other) => other !== point);
    const divisor = others.reduce((product, other) => product * (point - other), 1);
    return [1 / divisor, point / divisor, point ** 2 / divisor];
  });
  rows.push([0, 0, 1]);
  const side = rows.length;
  const [outputs, inputs] = w.shape as [number, number];
  return arrayOf([side * side, outputs, inputs], ([place, o, i]) => {
    const [down, across] = [rows[Math.floor(place! / side)]!, rows[place! % side]!];
    return sumOf(9, (tap) => {
      const weight = down[Math.floor(tap / 3)]! * across[tap % 3]!;
      return weight * w.data[(o! * inputs + i!) * 9 + tap]!;
    });
  });
}

function whichTiles(): void {
  test("depends on the number of tiles and channels", () => {
    const tileOf = (channels: readonly [number, number], side: number, batch = 1, kernel = 3) =>
      fastestTile([batch, channels[0], side, side], [channels[1], channels[0], kernel, kernel]);
    expect(tileOf([320, 320], 64)).toBe(4);
    expect(tileOf([320, 320], 32)).toBe(4);
    expect(tileOf([640, 640], 16)).toBe(2);
    // Too few tiles, unless there are several images.
    expect(tileOf([1280, 1280], 8)).toBeNull();
    expect(tileOf([1280, 1280], 8, 4)).toBe(2);
    // Too few channels: the first and the last convolution.
    expect(tileOf([4, 320], 64)).toBeNull();
    expect(tileOf([320, 4], 64)).toBeNull();
    // Much memory.
    expect(tileOf([512, 512], 256)).toBe(4);
    expect(tileOf([256, 256], 512)).toBeNull();
    // 1x1 kernels, and sides that are no multiple.
    expect(tileOf([320, 320], 64, 1, 1)).toBeNull();
    expect(tileOf([640, 640], 34)).toBe(2);
    expect(tileOf([640, 640], 33)).toBeNull();
  });
}

function leanTiles(): void {
  test("are never more than 2 wide, and where those are fast", () => {
    const tileOf = (channels: number, side: number) =>
      leanTile([1, channels, side, side], [channels, channels, 3, 3]);
    expect([tileOf(320, 64), tileOf(640, 16), tileOf(1280, 8), tileOf(128, 64)]).toEqual([2, 2, null, null]);
  });
}

function largestTiles(): void {
  test("is what the sides of an image allow", () => {
    const tileOf = (height: number, width: number, kernel = 3) =>
      largestTile([1, 2, height, width], [3, 2, kernel, kernel]);
    expect([tileOf(4, 8), tileOf(4, 6), tileOf(2, 2), tileOf(4, 5), tileOf(4, 4, 1)]).toEqual([
      ...[4, 2, 2, null, null],
    ]);
  });
}
