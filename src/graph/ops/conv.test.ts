import fc from "fast-check";
import { expect, test } from "vitest";
import {
  describeOperators,
  type OperatorCheck,
  testOperator,
  testOperatorOnce,
} from "../../../test/helpers/check-gradient.js";
import { arrayOf, at, type ReferenceArray, sumOf } from "../../../test/helpers/reference-array.js";
import { Graph } from "../graph.js";
import * as convolutions from "./conv.js";
import { mul } from "./elementwise.js";

const { conv2d } = convolutions;

type Pads = readonly [top: number, left: number, bottom: number, right: number];

interface ConvCase {
  n: number;
  inputs: number;
  outputs: number;
  height: number;
  width: number;
  kernel: readonly [number, number];
  stride: number;
  padding: number | Pads;
  bias: boolean;
  /** Default false. */
  weightIsFolded?: boolean;
}

/** y[n,o,p] = bias[o] + Σ_{i,k} x[n,i, s p + k - pad] w[o,i,k], x zero outside the image. */
function reference(
  x: ReferenceArray,
  w: ReferenceArray,
  bias: ReferenceArray | undefined,
  stride: number,
  padding: number | Pads,
): ReferenceArray {
  const [top, left, bottom, right] =
    typeof padding === "number" ? [padding, padding, padding, padding] : padding;
  const [n, inputs, height, width] = x.shape as [number, number, number, number];
  const [outputs, , kh, kw] = w.shape as [number, number, number, number];
  const pixel = (sample: number, channel: number, row: number, column: number) =>
    row < 0 || row >= height || column < 0 || column >= width
      ? 0
      : x.data[((sample * inputs + channel) * height + row) * width + column]!;
  const tap = (o: number, i: number, k: number, l: number) => w.data[((o * inputs + i) * kh + k) * kw + l]!;
  const shape = [
    n,
    outputs,
    Math.floor((height + top + bottom - kh) / stride) + 1,
    Math.floor((width + left + right - kw) / stride) + 1,
  ];
  return arrayOf(shape, ([sample, o, row, column]) => {
    const products = sumOf(inputs, (i) =>
      sumOf(kh, (k) =>
        sumOf(
          kw,
          (l) => pixel(sample!, i, row! * stride + k - top, column! * stride + l - left) * tap(o!, i, k, l),
        ),
      ),
    );
    return products + (bias === undefined ? 0 : at(bias, o!));
  });
}

function check({
  n,
  inputs,
  outputs,
  height,
  width,
  kernel,
  stride,
  padding,
  bias,
  weightIsFolded = false,
}: ConvCase): OperatorCheck {
  return {
    inputs: {
      x: { shape: [n, inputs, height, width] },
      w: { shape: [outputs, inputs, ...kernel] },
      ...(bias ? { bias: { shape: [outputs] } } : {}),
    },
    build: (graph, { x, w, bias }) => conv2d(graph, x!, w!, { stride, padding, bias, weightIsFolded }),
    reference: ({ x, w, bias }) => reference(x!, w!, bias, stride, padding),
  };
}

const small = fc.integer({ min: 1, max: 3 });
/** Odd and even lengths, all at least as long as a kernel. */
const imageLength = fc.integer({ min: 3, max: 7 });
const image = {
  n: fc.integer({ min: 1, max: 2 }),
  inputs: small,
  outputs: small,
  bias: fc.boolean(),
  weightIsFolded: fc.boolean(),
};
const sizes = { height: imageLength, width: imageLength };

describeOperators(convolutions, {
  conv2d: () => {
    for (const stride of [1, 2]) {
      testOperator(
        `3x3, stride ${stride}, padding 1`,
        fc.record({ ...image, ...sizes, kernel: fc.constant([3, 3] as const), padding: fc.constant(1) }),
        (drawn) => check({ ...drawn, stride }),
      );
      testOperator(
        `1x1, stride ${stride}`,
        fc.record({ ...image, ...sizes, kernel: fc.constant([1, 1] as const), padding: fc.constant(0) }),
        (drawn) => check({ ...drawn, stride }),
      );
    }
    const pad = fc.integer({ min: 0, max: 1 });
    testOperator(
      "any kernel, stride and padding below the kernel's size",
      fc.tuple(small, small).chain(([kh, kw]) =>
        fc.record({
          ...image,
          ...sizes,
          kernel: fc.constant([kh, kw] as const),
          stride: small,
          padding: fc
            .tuple(pad, pad, pad, pad)
            .map(
              ([t, l, b, r]): Pads => [
                Math.min(t, kh - 1),
                Math.min(l, kw - 1),
                Math.min(b, kh - 1),
                Math.min(r, kw - 1),
              ],
            ),
        }),
      ),
      check,
    );
    // The downsampling of the VAE encoder: one row and one column of zeros at the far edges only.
    for (const [height, width] of [
      [6, 6],
      [5, 6],
      [7, 5],
    ] as const) {
      testOperatorOnce(
        `3x3, stride 2, padding at the far edges, ${height}x${width}`,
        check({
          n: 1,
          inputs: 2,
          outputs: 2,
          height,
          width,
          kernel: [3, 3],
          stride: 2,
          padding: [0, 0, 1, 1],
          bias: true,
        }),
      );
    }
    for (const stride of [1, 2]) {
      testOperatorOnce(
        `3x3, stride ${stride}, of sizes past the vector widths of the kernels`,
        check({
          ...{ n: 2, inputs: 8, outputs: 12, height: 9, width: 10, bias: true },
          ...{ kernel: [3, 3], stride, padding: 1 },
        }),
      );
    }
    for (const [stride, kernel] of [
      [1, 3],
      [2, 3],
      [1, 1],
    ] as const) {
      const padding = kernel === 3 ? 1 : 0;
      testOperatorOnce(`${kernel}x${kernel}, stride ${stride}, symbolic output channels (a lora_down)`, {
        inputs: { x: { shape: [2, 3, 5, 6] }, w: { shape: ["rank", 3, kernel, kernel] } },
        symbols: [{ rank: 4 }, { rank: 1 }, { rank: 7 }],
        build: (graph, { x, w }) => conv2d(graph, x!, w!, { stride, padding }),
        reference: ({ x, w }) => reference(x!, w!, undefined, stride, padding),
      });
    }
    testOperatorOnce("1x1, symbolic input channels (a lora_up)", {
      inputs: { x: { shape: [2, "rank", 4, 3] }, w: { shape: [3, "rank", 1, 1] } },
      symbols: [{ rank: 4 }, { rank: 1 }, { rank: 7 }],
      build: (graph, { x, w }) => conv2d(graph, x!, w!),
      reference: ({ x, w }) => reference(x!, w!, undefined, 1, 0),
    });
    testOperatorOnce("after an operator whose result it shares with another", {
      inputs: { x: { shape: [1, 2, 4, 4] }, w: { shape: [2, 2, 3, 3] } },
      build: (graph, { x, w }) => {
        const squared = mul(graph, x!, x!);
        return [conv2d(graph, squared, w!, { padding: 1 }), conv2d(graph, squared, w!, { stride: 2 })];
      },
      reference: ({ x, w }) => {
        const squared = { shape: x!.shape, data: x!.data.map((value) => value * value) };
        return [reference(squared, w!, undefined, 1, 1), reference(squared, w!, undefined, 2, 0)];
      },
    });
    test("refuses images and kernels that do not fit", () => {
      const graph = new Graph();
      const x = graph.input("x", "float32", [1, 3, 4, 4]);
      const w = graph.input("w", "float32", [2, 4, 3, 3]);
      expect(() => conv2d(graph, x, w)).toThrow("conv2d of [1, 3, 4, 4] with [2, 4, 3, 3]");
    });
  },
});
