/** Training with factors, gradients and optimizer on the device, against the optimizer on the CPU. Skipped without WebGPU. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Denoiser, TrainBatch } from "../src/denoiser/denoiser.js";
import { createRankPlan, type RankPlanOptions } from "../src/dylora/index.js";
import { DeviceTensor } from "../src/runtime/device-session.js";
import { probeDevice } from "../src/runtime/probe.js";
import type { Session } from "../src/runtime/session.js";
import { LossScaler } from "../src/training/loss-scaler.js";
import { LossAverages } from "../src/training/metrics-averages.js";
import { createOptimizer } from "../src/training/optimizer/index.js";
import {
  createParameterStore,
  HostParameters,
  type ParameterStore,
} from "../src/training/parameters/index.js";
import { moduleTensors, type RunProgress } from "../src/training/run-state.js";
import { Stepper } from "../src/training/step.js";
import { createTrainedModules, type TrainedModule } from "../src/training/trained-module.js";
import {
  MINIMAL_RANK,
  type MinimalModel,
  minimalDenoiser,
  minimalModel,
  minimalModules,
} from "./helpers/minimal-denoiser.js";
import { tempFolder } from "./helpers/temp-folder.js";

/** A driver in software compiles the shaders of a step for minutes. */
const COMPILING_MS = 900_000;
const STEPS = 2;
const RATES = { unet: 1e-3, text_encoder: 5e-4 };

const adapter = await probeDevice("webgpu");
const unless = adapter.works ? "" : ` (skipped: ${adapter.problem})`;

describe.skipIf(!adapter.works)(`the step on WebGPU${unless}`, { timeout: COMPILING_MS }, () => {
  let model: MinimalModel;
  let gpu: Denoiser;
  const stores: ParameterStore[] = [];

  beforeAll(async () => {
    model = await minimalModel(await tempFolder(), "F16");
    gpu = minimalDenoiser(model, { device: "webgpu" });
  });
  afterAll(async () => {
    for (const store of stores) await store.release();
    await gpu.release();
  });

  interface Run {
    modules: TrainedModule[];
    parameters: ParameterStore;
    step(step: number, lossScaler?: LossScaler): ReturnType<Stepper["step"]>;
  }

  function run(
    where: "host" | "device",
    options: {
      optimizer?: string;
      plan?: Partial<RankPlanOptions>;
      microSteps?: number;
      maxGradNorm?: number;
      denoiser?: Denoiser;
      from?: readonly TrainedModule[];
    } = {},
  ): Run {
    const optimizer = createOptimizer(options.optimizer ?? "AdamW");
    const plan = createRankPlan({ maxRank: MINIMAL_RANK, ...options.plan });
    const modules = (options.from ?? freshModules()).map(copyOf);
    const denoiser = options.denoiser ?? gpu;
    const parameters =
      where === "host"
        ? new HostParameters(denoiser, modules, optimizer)
        : createParameterStore({ denoiser, modules, optimizer, plan });
    expect(parameters.isResident).toBe(where === "device");
    stores.push(parameters);
    const { maxGradNorm = 0.2, microSteps = 1 } = options;
    return {
      modules,
      parameters,
      step: (step, lossScaler) =>
        new Stepper({
          ...{ parameters, modules, plan, seed: 3, maxGradNorm },
          lossScaler: lossScaler ?? null,
        }).step(step, batches(microSteps), RATES),
    };

    function freshModules(): TrainedModule[] {
      const network = minimalModules(model, MINIMAL_RANK).map(({ factors }) => factors);
      return createTrainedModules(network, optimizer);
    }
  }

  async function* batches(count: number): AsyncGenerator<TrainBatch> {
    for (let index = 0; index < count; index++)
      yield { ...model.batch, timesteps: model.batch.timesteps.map((timestep) => timestep + index) };
  }

  // The rules of all optimizers: src/training/parameters/optimizer-rules.test.ts.
  const cases = [
    { optimizer: "AdamW", plan: { updateMode: "full" }, microSteps: 2 },
    { optimizer: "Lion", plan: { updateMode: "frozen", rankDraw: "module" }, microSteps: 1 },
  ] as const;
  test.each(cases)("takes the steps that the optimizer on the CPU takes: %o", async (options) => {
    const [host, device] = [run("host", options), run("device", options)];
    for (let step = 0; step < STEPS; step++) {
      const [expected, found] = [await host.step(step), await device.step(step)];
      expect(found.loss).toBeCloseTo(expected.loss, 5);
      expect(found.gradNorm / expected.gradNorm).toBeCloseTo(1, 5);
      // The clipping is part of what is compared.
      expect(expected.gradNorm).toBeGreaterThan(0.1);
    }
    await device.parameters.toHost();
    expectClose(device.modules, host.modules, 2e-5);
  });

  test("goes back to what was remembered, and on from a saved state, with the same bits", async () => {
    const whole = run("device");
    await whole.step(0);
    await whole.parameters.toHost();
    const before = whole.modules.map(copyOf);
    const progress = { step: 1, averages: new LossAverages() } as RunProgress;
    whole.parameters.lastGood.remember(progress);
    await whole.step(1);
    await whole.parameters.toHost();
    const after = numbersOf(whole.modules.map(copyOf));
    expect(after).not.toEqual(numbersOf(before));
    progress.step = 2;
    whole.parameters.lastGood.restore(progress);
    await whole.parameters.toHost();
    expect(numbersOf(whole.modules)).toEqual(numbersOf(before));
    expect(progress.step).toBe(1);

    const resumed = run("device", { from: before });
    await resumed.step(1);
    await resumed.parameters.toHost();
    expect(numbersOf(resumed.modules)).toEqual(after);
  });

  const withoutFloat16 = adapter.works && adapter.float16 ? "" : " (skipped: this adapter has no float16)";
  test.skipIf(withoutFloat16 !== "")(
    `leaves everything as it was where a gradient overflows float16${withoutFloat16}`,
    async () => {
      const half = minimalDenoiser(model, { device: "webgpu", computeType: "float16" });
      const device = run("device", { denoiser: half, maxGradNorm: 1 });
      const before = numbersOf(device.modules.map(copyOf));
      const tooLarge = new LossScaler({ scale: 2 ** 127, goodSteps: 0, skippedSteps: 0 });
      expect(await device.step(0, tooLarge)).toMatchObject({ skipped: true });
      await device.parameters.toHost();
      expect(numbersOf(device.modules)).toEqual(before);
      expect(await device.step(0, new LossScaler())).toMatchObject({ skipped: false });
      await device.parameters.toHost();
      expect(numbersOf(device.modules)).not.toEqual(before);
      await half.release();
    },
  );

  test("a tensor of the device is nothing that a session on the CPU takes", () => {
    const feed = (session: Session, tensor: DeviceTensor) =>
      // @ts-expect-error it would compute garbage
      session.run({ x: tensor });
    expect(feed).toBeTypeOf("function");
    expect(DeviceTensor.prototype).not.toHaveProperty("data");
  });
});

function copyOf({ factors, down, up, gradients }: TrainedModule): TrainedModule {
  const stateOf = ({ slots, steps }: TrainedModule["down"]) => ({
    slots: Object.fromEntries(Object.entries(slots).map(([name, values]) => [name, values.slice()])),
    steps: steps.slice(),
  });
  return {
    factors: { ...factors, down: factors.down.slice(), up: factors.up.slice() },
    down: stateOf(down),
    up: stateOf(up),
    gradients: { down: gradients.down.slice(), up: gradients.up.slice() },
  };
}

/** Everything that training changes, by name. */
function numbersOf(modules: readonly TrainedModule[]): Map<string, Float32Array | Uint32Array> {
  const numbers = new Map<string, Float32Array | Uint32Array>();
  for (const { name, data } of moduleTensors(modules)) numbers.set(name, data);
  return numbers;
}

function expectClose(
  found: readonly TrainedModule[],
  expected: readonly TrainedModule[],
  tolerance: number,
): void {
  const ours = numbersOf(found);
  for (const [name, theirs] of numbersOf(expected)) {
    if (theirs instanceof Uint32Array) {
      expect(ours.get(name), name).toEqual(theirs);
      continue;
    }
    let difference = 0;
    let size = 0;
    for (const [index, value] of theirs.entries()) {
      difference += (ours.get(name)![index]! - value) ** 2;
      size += value ** 2;
    }
    expect(difference === 0 ? 0 : Math.sqrt(difference / size), name).toBeLessThan(tolerance);
  }
}
