import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { randomBatch, type TinyDenoiser, tinyDenoiser } from "../../test/helpers/tiny-denoiser.js";
import { SLOW_MS } from "../../test/helpers/tiny-run.js";
import type { TrainBatch } from "../denoiser/denoiser.js";
import type { BranchFactors } from "../denoiser/factors.js";
import { createRankPlan, type RankPlanOptions } from "../dylora/index.js";
import { LossScaler } from "./loss-scaler.js";
import { freshModule } from "./network.js";
import { type Optimizer, touchedRuns } from "./optimizer/index.js";
import { HostParameters } from "./parameters/index.js";
import { Stepper, type StepperOptions } from "./step.js";
import { activate, createTrainedModules, type TrainedModule } from "./trained-module.js";

const MAX_RANK = 4;
/** Large beside the factors, so that float32 rounds little of a gradient away. */
const RATE = 1000;
const RATES = { unet: RATE, text_encoder: RATE };

/** `w <- w - rate * gradient`: a change is the gradient itself, and components count their steps. */
const descent: Optimizer = {
  name: "descent",
  settings: {},
  slotNames: [],
  step(update) {
    const { learningRate, gradientScale = 1 } = update;
    for (const { values, gradient } of touchedRuns(update, [])) {
      for (const index of values.keys()) values[index]! -= learningRate * gradientScale * gradient[index]!;
    }
  },
};

let tiny: TinyDenoiser;
let network: BranchFactors[];
let modules: TrainedModule[];

beforeAll(async () => {
  tiny = await tinyDenoiser({
    unetOnly: true,
    wanted: /up_blocks_3_attentions_2_.*(attn1_to_v|ff_net_2|proj_out)$/,
  });
}, SLOW_MS);

afterAll(() => tiny.denoiser.release());

beforeEach(() => resetNetwork());

function resetNetwork(): void {
  const fresh = tiny.targets.map((target) => {
    const factors = freshModule(target, MAX_RANK, 2, 5);
    return { ...factors, up: factors.up.map((_, index) => Math.sin(index) / 10) };
  });
  modules = createTrainedModules(fresh, descent);
  network = modules.map(({ factors }) => factors);
}

const stepper = (plan: Partial<RankPlanOptions> = {}, options: Partial<StepperOptions> = {}) =>
  new Stepper({
    parameters: new HostParameters(tiny.denoiser, modules, descent),
    modules,
    plan: createRankPlan({ maxRank: MAX_RANK, ...plan }),
    seed: 1,
    maxGradNorm: 0,
    ...options,
  });

const batches = (count: number): TrainBatch[] =>
  Array.from({ length: count }, (_, index) => randomBatch(tiny, 1, index));

async function* stream(list: readonly TrainBatch[]) {
  yield* list;
}

const copyOf = (factors: readonly BranchFactors[]) =>
  factors.map(({ down, up }) => ({ down: down.slice(), up: up.slice() }));

/** The components of a factor that are not what they were. */
function changedRows(before: Float32Array, after: Float32Array): number[] {
  const width = before.length / MAX_RANK;
  return Array.from({ length: MAX_RANK }, (_, row) => row).filter((row) =>
    before.subarray(row * width, (row + 1) * width).some((value, i) => value !== after[row * width + i]),
  );
}

describe("Stepper", () => {
  test("micro-steps at different ranks add up to their mean, missing components counting as zero", async () => {
    const list = batches(4);
    const before = copyOf(network);
    // What each micro-step gives alone, at every rank, with the factors as they are now.
    const gradientsAt = async (batch: TrainBatch, rank: number) =>
      (
        await tiny.denoiser.gradients(
          batch,
          network.map((factors) => activate(factors, rank)),
        )
      ).gradients;
    const single = new Map<string, Awaited<ReturnType<typeof gradientsAt>>>();
    for (const [index, batch] of list.entries()) {
      for (let rank = 1; rank <= MAX_RANK; rank++)
        single.set(`${index} ${rank}`, await gradientsAt(batch, rank));
    }

    const { draws, loss, gradNorm } = await stepper().step(0, stream(list), RATES);
    expect(new Set(draws.map(({ rank }) => rank)).size).toBeGreaterThan(1);
    expect(loss).toBeCloseTo(draws.reduce((sum, draw) => sum + draw.loss, 0) / 4, 12);

    let squares = 0;
    let errors = 0;
    for (const [index, { target, down, up }] of network.entries()) {
      for (const [side, values] of [
        ["down", down],
        ["up", up],
      ] as const) {
        const expected = new Float64Array(values.length);
        for (const [microStep, { rank }] of draws.entries()) {
          const part = single.get(`${microStep} ${rank}`)!.get(target.name)![side];
          for (const [i, value] of part.entries()) expected[i]! += value / 4;
        }
        for (const [i, gradient] of expected.entries()) {
          squares += gradient ** 2;
          errors += ((before[index]![side][i]! - values[i]!) / RATE - gradient) ** 2;
        }
      }
    }
    expect(Math.sqrt(errors / squares)).toBeLessThan(1e-5);
    expect(gradNorm / Math.sqrt(squares)).toBeCloseTo(1, 5);
  });

  test("the whole gradient is scaled down to max_grad_norm", async () => {
    const maxGradNorm = 1e-4;
    const before = copyOf(network);
    const { gradNorm } = await stepper({}, { maxGradNorm }).step(0, stream(batches(1)), RATES);
    expect(gradNorm).toBeGreaterThan(maxGradNorm);
    let squares = 0;
    for (const [index, { down, up }] of network.entries()) {
      for (const [i, value] of down.entries()) squares += (before[index]!.down[i]! - value) ** 2;
      for (const [i, value] of up.entries()) squares += (before[index]!.up[i]! - value) ** 2;
    }
    expect(Math.sqrt(squares) / RATE / maxGradNorm).toBeCloseTo(1, 2);
  });

  test("in the mode full a draw trains its components, and leaves the rest alone", async () => {
    const before = copyOf(network);
    const { draws } = await stepper({ ranks: [2, 4] }).step(1, stream(batches(1)), RATES);
    const rows = Array.from({ length: draws[0]!.rank }, (_, row) => row);
    for (const [index, { down, up }] of network.entries()) {
      expect(changedRows(before[index]!.down, down)).toEqual(rows);
      expect(changedRows(before[index]!.up, up)).toEqual(rows);
      expect([...modules[index]!.down.steps]).toEqual(
        [0, 1, 2, 3].map((row) => (rows.includes(row) ? 1 : 0)),
      );
    }
  });

  test("in the mode frozen it trains the last unit of them", async () => {
    for (const step of [0, 1, 2, 3]) {
      const before = copyOf(network);
      const target = stepper({ unit: 2, updateMode: "frozen" });
      const { draws } = await target.step(step, stream(batches(1)), RATES);
      const { rank } = draws[0]!;
      for (const [index, { down }] of network.entries()) {
        expect(changedRows(before[index]!.down, down)).toEqual([rank - 2, rank - 1]);
      }
    }
  });

  test("the loss of a draw is that of the model at its rank, whatever is trained", async () => {
    const [batch] = batches(1);
    for (const updateMode of ["full", "frozen"] as const) {
      const active = (rank: number) => network.map((factors) => activate(factors, rank));
      const losses = new Map<number, number>();
      for (const rank of [2, 4]) losses.set(rank, (await tiny.denoiser.loss(batch!, active(rank)))[0]!);
      const { draws } = await stepper({ unit: 2, updateMode }).step(0, stream([batch!]), RATES);
      expect(draws[0]!.loss / losses.get(draws[0]!.rank)!).toBeCloseTo(1, 6);
    }
  });

  test("with a draw per module each one has its own rank", async () => {
    const before = copyOf(network);
    const { draws } = await stepper({ rankDraw: "module" }).step(0, stream(batches(1)), RATES);
    const ranks = network.map(({ up }, index) => changedRows(before[index]!.up, up).length);
    expect(new Set(ranks).size).toBeGreaterThan(1);
    expect(draws[0]!.rank).toBe(Math.round(ranks.reduce((sum, rank) => sum + rank, 0) / ranks.length));
  });

  test("draws depend on seed and step, and on nothing that was done before", async () => {
    const ranksOf = async (target: Stepper, step: number) =>
      (await target.step(step, stream(batches(3)), RATES)).draws.map(({ rank }) => rank);
    const first = stepper();
    await ranksOf(first, 0);
    await ranksOf(first, 1);
    expect(await ranksOf(first, 2)).toEqual(await ranksOf(stepper(), 2));
    const others = await Promise.all([3, 4, 5].map((step) => ranksOf(stepper(), step)));
    expect(new Set(others.map(String)).size).toBeGreaterThan(1);
  });

  test("a learning rate of one component moves that one", async () => {
    const before = copyOf(network);
    await stepper().step(0, stream(batches(1)), { unet: 0, text_encoder: RATE });
    expect(copyOf(network)).toEqual(before);
  });

  test("a loss that is not finite ends the run before anything has changed", async () => {
    network[0]!.down[0] = Number.NaN;
    const before = copyOf(network);
    let finite = 0;
    const target = stepper({ ranks: [4] }, { onFinite: () => finite++ });
    await expect(target.step(6, stream(batches(2)), RATES)).rejects.toMatchObject({
      code: "E_DIVERGED",
      message: "training diverged at step 7: the loss is NaN",
    });
    expect(copyOf(network)).toEqual(before);
    expect(finite).toBe(0);
    expect(modules.every(({ down }) => down.steps.every((count) => count === 0))).toBe(true);
  });

  test("a power of two as loss scale changes no digit of the step", async () => {
    await stepper({}, { maxGradNorm: 1e-3 }).step(0, stream(batches(2)), RATES);
    const plain = copyOf(network);
    resetNetwork();
    const lossScaler = new LossScaler();
    const target = stepper({}, { maxGradNorm: 1e-3, lossScaler });
    const { lossScale, skipped } = await target.step(0, stream(batches(2)), RATES);
    expect(copyOf(network)).toEqual(plain);
    expect({ lossScale, skipped }).toEqual({ lossScale: 65536, skipped: false });
    expect(lossScaler.state).toEqual({ scale: 65536, goodSteps: 1, skippedSteps: 0 });
  });

  test("a step whose scaled gradients overflow is skipped, with half the scale for the next one", async () => {
    const before = copyOf(network);
    let finite = 0;
    // Beyond float32, in which this denoiser computes.
    const lossScaler = new LossScaler({ scale: 2 ** 200, goodSteps: 7, skippedSteps: 1 });
    const target = stepper({ ranks: [4] }, { lossScaler, onFinite: () => finite++ });
    const { loss, gradNorm, lossScale, skipped } = await target.step(0, stream(batches(1)), RATES);
    expect({ lossScale, skipped }).toEqual({ lossScale: 2 ** 200, skipped: true });
    expect(Number.isFinite(gradNorm)).toBe(false);
    expect(loss).toBeGreaterThan(0);
    expect(lossScaler.state).toEqual({ scale: 2 ** 199, goodSteps: 0, skippedSteps: 2 });
    expect(copyOf(network)).toEqual(before);
    expect(finite).toBe(0);
    expect(modules.every(({ down }) => down.steps.every((count) => count === 0))).toBe(true);
  });

  test("gradients that overflow at the smallest loss scale end the run", async () => {
    const [batch] = batches(1);
    // The loss is 1e36, a gradient 1e18 times the weight.
    const far = batch!.target.map((value) => value * 1e18);
    const heavy = { ...batch!, target: far, lossWeight: Float32Array.of(3e38) };
    const lossScaler = new LossScaler({ scale: 1, goodSteps: 0, skippedSteps: 16 });
    await expect(stepper({}, { lossScaler }).step(0, stream([heavy]), RATES)).rejects.toMatchObject({
      code: "E_DIVERGED",
      message: expect.stringContaining("the norm of the gradients is"),
    });
  });

  test("onFinite is called once a step, with the factors of before", async () => {
    const before = copyOf(network);
    const seen: unknown[] = [];
    await stepper({}, { onFinite: () => seen.push(copyOf(network)) }).step(0, stream(batches(2)), RATES);
    expect(seen).toEqual([before]);
    expect(copyOf(network)).not.toEqual(before);
  });
});

test("activate takes the paper's strength alpha / rank", () => {
  const [factors] = network;
  expect(activate(factors!, 4)).toEqual({ factors, rank: 4, scale: 0.5 });
  expect(activate(factors!, 1)).toEqual({ factors, rank: 1, scale: 2 });
  expect(activate(factors!, 0)).toEqual({ factors, rank: 0, scale: 0 });
});
