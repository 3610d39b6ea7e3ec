import { describe, expect, it } from "vitest";
import { DyloraError } from "../../errors.js";
import { randomStream } from "../../random/stream.js";
import { adamW, createFactorState, lion, type Optimizer, sgdNesterov } from "./index.js";

const N = 6;

/** The start and the gradients that the torch runs below used. */
const startValue = (i: number): number => Math.cos(3 * i) * 0.1;
const gradientAt = (t: number, i: number): number => Math.sin(1 + i + 7 * t) * 10 ** -(i % 4);
const learningRateAt = (t: number): number => 0.01 * (1 - t / 10);

/** One component of six elements through `steps` steps. */
function run(optimizer: Optimizer, steps: number) {
  const values = Float32Array.from({ length: N }, (_, i) => startValue(i));
  const state = createFactorState(optimizer, 1, N);
  for (let t = 0; t < steps; t++) {
    optimizer.step({
      values,
      state,
      rows: { begin: 0, end: 1 },
      gradient: Float32Array.from({ length: N }, (_, i) => gradientAt(t, i)),
      learningRate: learningRateAt(t),
    });
  }
  return { values, state };
}

/** Every element within `relative` of torch's: float32 has 6e-8, and seven steps round differently. */
function expectClose(actual: Float32Array, expected: readonly number[], relative = 1e-6): void {
  expect(actual).toHaveLength(expected.length);
  for (const [i, value] of actual.entries()) {
    expect(Math.abs(value - expected[i]!)).toBeLessThanOrEqual(relative * Math.abs(expected[i]!));
  }
}

// Expected values: torch 1.13.0 on the CPU, float32, the optimizer named, `startValue` as the parameter, and in step t
// `p.grad = gradientAt(t, i)` and `lr = learningRateAt(t)`.
describe("parity with torch", () => {
  it("torch.optim.AdamW with its defaults", () => {
    expectClose(
      run(adamW(), 1).values,
      [
        0.08999000489711761, -0.10898934304714203, 0.0860074907541275, -0.08110404759645462,
        0.09437695145606995, -0.06596119701862335,
      ],
    );
    const { values, state } = run(adamW(), 7);
    expectClose(
      values,
      [
        0.0659966692328453, -0.11475870013237, 0.11203040182590485, -0.05543503910303116, 0.10351437330245972,
        -0.08808037638664246,
      ],
    );
    expectClose(
      state.slots.exp_avg!,
      [
        -0.08103198558092117, -0.014409864321351051, -0.0007468165713362396, 6.339728133752942e-5,
        0.14318905770778656, 0.009133348241448402,
      ],
    );
    expectClose(
      state.slots.exp_avg_sq!,
      [
        0.0042130653746426105, 3.175663368892856e-5, 3.0271894502220675e-7, 4.188165370067054e-9,
        0.0033703665249049664, 2.8900394681841135e-5,
      ],
    );
    expect([...state.steps]).toEqual([7]);
  });

  it("torch.optim.AdamW(betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1)", () => {
    const optimizer = adamW({ betas: [0.8, 0.95], eps: 1e-3, weightDecay: 0.1 });
    expectClose(
      run(optimizer, 7).values,
      [
        0.06862127780914307, -0.11062027513980865, 0.11238022893667221, -0.07606445252895355,
        0.09948433935642242, -0.08884894847869873,
      ],
    );
  });

  it("torch.optim.SGD(momentum=0.9, nesterov=True, weight_decay=0.05)", () => {
    const { values, state } = run(sgdNesterov({ weightDecay: 0.05 }), 7);
    expectClose(
      values,
      [
        0.03568211570382118, -0.0981636494398117, 0.0958019271492958, -0.0902421697974205,
        0.09460694342851639, -0.08096391707658768,
      ],
    );
    expectClose(
      state.slots.momentum_buffer!,
      [
        -0.7980796098709106, -0.17030459642410278, 0.017556704580783844, -0.023018743842840195,
        1.4605270624160767, 0.07092445343732834,
      ],
    );
  });
});

describe("lion", () => {
  it("follows algorithm 2 of arXiv:2302.06675", () => {
    const { values, state } = run(lion({ weightDecay: 0.1 }), 7);
    for (let i = 0; i < N; i++) {
      let [w, m] = [startValue(i), 0];
      for (let t = 0; t < 7; t++) {
        const [g, lr] = [gradientAt(t, i), learningRateAt(t)];
        w = w - lr * 0.1 * w - lr * Math.sign(0.9 * m + 0.1 * g);
        m = 0.99 * m + 0.01 * g;
      }
      expect(values[i]).toBeCloseTo(w, 6);
      expect(state.slots.exp_avg![i]).toBeCloseTo(m, 7);
    }
  });
});

const optimizers: [string, () => Optimizer][] = [
  ["AdamW", () => adamW({ weightDecay: 0.1 })],
  ["Lion", () => lion({ weightDecay: 0.1 })],
  ["SGDNesterov", () => sgdNesterov({ weightDecay: 0.1 })],
];

describe.each(optimizers)("%s per component", (_, make) => {
  const [rank, width] = [6, 5];
  const normals = (key: string, rows = rank) =>
    randomStream(1, key).fillNormal(new Float32Array(rows * width));

  it("does not touch a component without gradient", () => {
    const optimizer = make();
    const state = createFactorState(optimizer, rank, width);
    const values = normals("start");
    const step = (begin: number, end: number) =>
      optimizer.step({
        values,
        state,
        rows: { begin, end },
        gradient: normals("gradient", end - begin),
        learningRate: 0.1,
      });
    step(0, 6);
    const before = { values: values.slice(), slots: structuredClone(state.slots) };
    step(2, 4);
    expect([...state.steps]).toEqual([1, 1, 2, 2, 1, 1]);
    const untouched = (array: Float32Array) => [...array.slice(0, 2 * width), ...array.slice(4 * width)];
    expect(untouched(values)).toEqual(untouched(before.values));
    expect(values.slice(2 * width, 4 * width)).not.toEqual(before.values.slice(2 * width, 4 * width));
    for (const name of optimizer.slotNames) {
      expect(untouched(state.slots[name]!)).toEqual(untouched(before.slots[name]!));
    }
  });

  it("gives a component what it would get if it were alone with its own steps", () => {
    const optimizer = make();
    const together = { values: normals("start"), state: createFactorState(optimizer, rank, width) };
    const alone = Array.from({ length: rank }, (_, row) => ({
      values: together.values.slice(row * width, (row + 1) * width),
      state: createFactorState(optimizer, 1, width),
    }));
    const ranges = [
      [0, 6],
      [0, 2],
      [4, 6],
      [0, 4],
      [1, 5],
      [0, 6],
    ] as const;
    for (const [t, [begin, end]] of ranges.entries()) {
      const gradient = normals(`gradient ${t}`, end - begin);
      const learningRate = 0.1 / (t + 1);
      optimizer.step({ ...together, rows: { begin, end }, gradient, learningRate });
      for (let row = begin; row < end; row++) {
        const own = gradient.slice((row - begin) * width, (row - begin + 1) * width);
        optimizer.step({ ...alone[row]!, rows: { begin: 0, end: 1 }, gradient: own, learningRate });
      }
    }
    expect([...together.state.steps]).toEqual([4, 5, 4, 4, 4, 3]);
    for (const [row, { values }] of alone.entries()) {
      expect(together.values.slice(row * width, (row + 1) * width)).toEqual(values);
    }
  });

  it("scales the gradient as if it had been scaled before", () => {
    const optimizer = make();
    const results = [1, 0.25].map((gradientScale) => {
      const values = normals("start");
      const state = createFactorState(optimizer, rank, width);
      // Powers of two, so that scaling rounds nothing.
      const gradient = normals("gradient").map((g) => (g * 0.25) / gradientScale);
      optimizer.step({
        values,
        state,
        rows: { begin: 0, end: rank },
        gradient,
        learningRate: 0.1,
        gradientScale,
      });
      return { values, state };
    });
    expect(results[1]).toEqual(results[0]);
  });

  it("refuses gradients that do not fit the components", () => {
    const optimizer = make();
    const update = {
      values: new Float32Array(rank * width),
      state: createFactorState(optimizer, rank, width),
      learningRate: 0.1,
    };
    const gradient = new Float32Array(2 * width);
    expect(() => optimizer.step({ ...update, rows: { begin: 0, end: 3 }, gradient })).toThrow(DyloraError);
    expect(() => optimizer.step({ ...update, rows: { begin: 5, end: 7 }, gradient })).toThrow(
      /components 5 to 7/,
    );
    const state = createFactorState(optimizer, rank, width + 1);
    expect(() => optimizer.step({ ...update, state, rows: { begin: 0, end: 2 }, gradient })).toThrow(
      /no slot/,
    );
    expect([...update.state.steps]).toEqual([0, 0, 0, 0, 0, 0]);
  });
});
