import { rm } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { metadataOf, pictureFolder, tinyConfig } from "../../test/helpers/tiny-run.js";
import type { TrainConfig } from "./config.js";
import type { TrainEvent } from "./events.js";
import { type PreparedRun, prepareRun, type SettledChoices } from "./prepare.js";
import { ModelHashes, saveWeights } from "./save-weights.js";

let pictures: string;
let output: string;

beforeAll(async () => {
  pictures = await pictureFolder(4);
  output = await tempFolder();
});

async function prepare(
  changes: Partial<TrainConfig> = {},
  settled: SettledChoices | null = null,
): Promise<PreparedRun & { events: TrainEvent[] }> {
  const events: TrainEvent[] = [];
  const config = tinyConfig({ trainDataDir: pictures, outputDir: output, ...changes });
  const hooks = { onEvent: (event: TrainEvent) => events.push(event), signal: new AbortController().signal };
  return { ...(await prepareRun(config, config.seed!, hooks, settled)), events };
}

const components = ({ targets }: PreparedRun) => new Set(targets.map(({ component }) => component));

describe("prepareRun", () => {
  test.each([
    [{ networkTrainUnetOnly: false }, ["text_encoder", "unet"]],
    [{ networkTrainUnetOnly: true }, ["unet"]],
    [{ networkTrainUnetOnly: false, networkTrainTextEncoderOnly: true }, ["text_encoder"]],
    [{ networkTrainUnetOnly: false, unetLr: 0 }, ["text_encoder"]],
    [{ networkTrainUnetOnly: false, textEncoderLr: 0 }, ["unet"]],
  ])("%j trains %j", async (changes, expected) => {
    const run = await prepare(changes);
    expect([...components(run)].sort()).toEqual(expected);
    expect(run.denoiser.includesTextEncoder).toBe(expected.includes("text_encoder"));
    expect(run.modules).toHaveLength(run.targets.length);
  });

  test("conv_dim adds the convolutions, at their own rank", async () => {
    const plain = await prepare();
    const run = await prepare({ networkArgs: ["unit=2", "conv_dim=2", "conv_alpha=3"] });
    expect(run.targets.length).toBeGreaterThan(plain.targets.length);
    const convs = run.network.filter(({ target }) => target.kind === "conv3x3");
    expect(convs.length).toBeGreaterThan(0);
    expect(new Set(convs.map(({ maxRank, alpha }) => `${maxRank} ${alpha}`))).toEqual(new Set(["2 3"]));
    expect(run.plan.ranks).toEqual([2, 4]);
  });

  test("a run of epochs counts its steps", async () => {
    const run = await prepare({ maxTrainEpochs: 3, gradientAccumulationSteps: 2, trainBatchSize: 2 });
    // 4 pictures, twice an epoch, in batches of 2, in steps of 2 batches.
    expect(run).toMatchObject({ totalSteps: 6, totalEpochs: 3, batchesPerEpoch: 4 });
  });

  test("validation has a picture's draws in every quarter of the timesteps", async () => {
    const run = await prepare({ validationSplit: 0.5 });
    expect(run.heldOut!.samples).toHaveLength(2 * 4);
    expect(run.heldOut!.samples.slice(0, 4).map(({ timestep }) => Math.floor(timestep / 250))).toEqual([
      0, 1, 2, 3,
    ]);
    const some = await prepare({ validationSplit: 0.5, maxValidationSteps: 1 });
    expect(some.heldOut!.samples).toHaveLength(4);
    expect((await prepare()).heldOut).toBeNull();
  });

  test("a size that the U-Net cannot halve often enough is refused", async () => {
    await expect(prepare({ resolution: { width: 24, height: 16 } })).rejects.toMatchObject({
      exitCode: 2,
      message: expect.stringContaining("24"),
    });
  });

  test("no picture left to train on is an error", async () => {
    const one = await pictureFolder(1);
    await expect(prepare({ trainDataDir: one, validationSplit: 0.9 })).rejects.toMatchObject({
      code: "E_DATA",
    });
  });
});

describe("a run that goes on", () => {
  const settled: SettledChoices = {
    sizes: { rank: 6, alpha: 2, convRank: null, convAlpha: null },
    device: "cpu",
    executionMode: "fast",
  };

  test("keeps device and mode that auto had chosen: another choice would compute other last bits", async () => {
    const auto = { device: "auto", executionMode: "auto" } as const;
    for (const mode of ["fast", "lean"] as const) {
      const run = await prepare(auto, { ...settled, executionMode: mode });
      expect([run.device, run.executionMode]).toEqual(["cpu", mode]);
    }
    // What the user asks for now wins.
    expect((await prepare({ executionMode: "lean" }, settled)).executionMode).toBe("lean");
  });

  test("takes the sizes of its network from the state, and never opens network_weights again", async () => {
    const run = await prepare({ networkWeights: join(output, "gone.safetensors") }, settled);
    expect(run.network[0]).toMatchObject({ maxRank: 6, alpha: 2 });
  });
});

test("--dim_from_weights takes all sizes from the file, and says so in the files of the run", async () => {
  const first = await prepare({ networkArgs: ["unit=2", "conv_dim=2", "conv_alpha=3"], networkDim: 6 });
  const path = join(output, "first.safetensors");
  await saveWeights(path, first.network, contextOf(first), new ModelHashes(), { step: 0, epoch: 0 });

  const second = await prepare({ networkWeights: path, dimFromWeights: true });
  expect(second.sizes).toEqual({ rank: 6, alpha: 4, convRank: 2, convAlpha: 3 });
  expect(second.plan.ranks).toEqual([2, 4, 6]);
  const again = join(output, "second.safetensors");
  await saveWeights(again, second.network, contextOf(second), new ModelHashes(), { step: 0, epoch: 0 });
  const metadata = await metadataOf(again);
  expect(metadata).toMatchObject({ ss_network_dim: "6", ss_network_alpha: "4.0" });
  expect(JSON.parse(metadata.ss_network_args!)).toMatchObject({ unit: "2", conv_dim: "2", conv_alpha: "3" });
  await rm(path);
});

const contextOf = (run: PreparedRun) => ({ ...run, sessionId: 1, startedAt: new Date(0) });
