/** `--network_weights`: training that goes on from a LoRA file. */
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openAdapter } from "../../src/adapter/index.js";
import { runCli } from "../../src/cli/main.js";
import { moduleRank } from "../../src/dylora/index.js";
import { extract, planExtract } from "../../src/surgery/index.js";
import type { TrainConfig } from "../../src/training/config.js";
import { type PreparedRun, prepareRun } from "../../src/training/prepare.js";
import { activate } from "../../src/training/trained-module.js";
import { memoryTerminal } from "../helpers/memory-terminal.js";
import { tempFolder } from "../helpers/temp-folder.js";
import {
  benchTiny,
  eventsOf,
  GOLDEN,
  metadataOf,
  pictureFolder,
  SLOW_MS,
  TINY_MODEL,
  TINY_OPTIONS,
  tinyConfig,
  trainTiny,
} from "../helpers/tiny-run.js";

const { signal } = new AbortController();

let pictures: string;
let heldOut: string;
/** A DyLoRA of rank 4, alpha 4, unit 2, and its copy of rank 2. */
let trained: string;
let half: string;
let losses: { trained: number; half: number; base: number };
const runs: PreparedRun[] = [];

beforeAll(async () => {
  pictures = await pictureFolder(2);
  heldOut = await pictureFolder(1, "1_emoji", 40);
  const folder = await tempFolder();
  const config = tinyConfig({ trainDataDir: pictures, outputDir: folder, learningRate: 3e-2 });
  trained = (await trainTiny(config)).result.weightsPath!;
  await using adapter = await openAdapter(trained);
  const { outputs } = await extract(planExtract(adapter, { ranks: [2] }, { outDir: folder }));
  half = outputs[0]!.path;
  const report = await benchTiny([trained, half], { data: heldOut, seed: TINY_OPTIONS.seed });
  const lossOf = (file: number) => report.files[file]!.ranks.at(-1)!.multipliers[0]!.meanLoss;
  losses = { trained: lossOf(0), half: lossOf(1), base: report.base.meanLoss };
}, SLOW_MS);

afterAll(async () => {
  for (const { conditioning, denoiser } of runs) {
    await conditioning.release();
    await denoiser.release();
  }
});

/** A run that starts from a file, right before its first step. */
async function startFrom(networkWeights: string, changes: Partial<TrainConfig> = {}): Promise<PreparedRun> {
  const config = tinyConfig({
    trainDataDir: pictures,
    validationDir: heldOut,
    outputDir: await tempFolder(),
    networkWeights,
    ...changes,
  });
  const run = await prepareRun(config, config.seed!, { onEvent: () => {}, signal });
  runs.push(run);
  return run;
}

async function lossAt({ heldOut, denoiser, modules, plan }: PreparedRun, rank: number): Promise<number> {
  const active = modules.map(({ factors }) => activate(factors, moduleRank(plan, factors.maxRank, rank)));
  const found = await heldOut!.losses(denoiser, active, { signal });
  return found.reduce((total, loss) => total + loss, 0) / found.length;
}

const difference = (a: number, b: number) => Math.abs(a - b) / Math.abs(b);

test(
  "a file of the same rank starts as the function that it is",
  async () => {
    const run = await startFrom(trained);
    expect(difference(await lossAt(run, 4), losses.trained)).toBeLessThan(1e-6);
    expect(difference(await lossAt(run, 2), losses.half)).toBeLessThan(1e-6);
    expect(difference(losses.trained, losses.base)).toBeGreaterThan(1e-4);
  },
  SLOW_MS,
);

test(
  "an extracted lower rank starts as the function that it is at its rank, also with another alpha",
  async () => {
    const run = await startFrom(half, { networkAlpha: 1 });
    expect(run.plan.ranks).toEqual([2, 4]);
    expect(difference(await lossAt(run, 2), losses.half)).toBeLessThan(1e-6);
    // The new components are those of a fresh adapter: they change nothing yet, but for the strength alpha / rank.
    const fresh = await startFrom(trained);
    for (const [index, { factors }] of run.modules.entries()) {
      const { up, down } = factors;
      expect(up.subarray(up.length / 2).every((value) => value === 0)).toBe(true);
      expect(down.subarray(0, down.length / 2)).toEqual(
        fresh.modules[index]!.factors.down.subarray(0, down.length / 2),
      );
    }
  },
  SLOW_MS,
);

test(
  "training goes on, in the old components and in the new ones",
  async () => {
    const before = await startFrom(half);
    const run = await trainTiny(
      tinyConfig({
        trainDataDir: pictures,
        outputDir: await tempFolder(),
        networkWeights: half,
        networkArgs: ["unit=2", "ranks=4"],
      }),
    );
    await using adapter = await openAdapter(run.result.weightsPath!);
    expect(adapter.maxRank).toBe(4);
    const module = adapter.modules[0]!;
    const up = await adapter.file.readFloat32(module.up.name);
    const start = before.network.find(({ target }) => target.name === module.name)!;
    const column = (component: number) =>
      Array.from({ length: module.outFeatures }, (_, row) => up[row * 4 + component]!);
    const width = module.outFeatures;
    expect(column(0)).not.toEqual([...start.up.subarray(0, width)]);
    expect(column(3).some((value) => value !== 0)).toBe(true);
  },
  SLOW_MS,
);

test(
  "--dim_from_weights takes rank and alpha of the file",
  async () => {
    const run = await trainTiny(
      tinyConfig({
        trainDataDir: pictures,
        outputDir: await tempFolder(),
        networkDim: 64,
        networkWeights: half,
        dimFromWeights: true,
        maxTrainSteps: 1,
      }),
    );
    expect(eventsOf(run.events, "start")[0]!.network).toMatchObject({ maxRank: 2, alpha: 4, ranks: [2] });
    expect(await metadataOf(run.result.weightsPath!)).toMatchObject({
      ss_network_dim: "2",
      ss_network_alpha: "4.0",
    });
  },
  SLOW_MS,
);

describe("a file that does not fit is refused with module and option, and nothing is started", () => {
  const NOTE = "Nothing was started, and the file was not changed.";
  test.each([
    ["a higher rank", ["--network_dim=2"], 2, "E_RANK", "Use --network_dim 4 (or --dim_from_weights)"],
    [
      "modules it lacks",
      ["--network_dim=4", "--train_text_encoder"],
      3,
      "E_INCOMPATIBLE",
      "Add --network_train_unet_only",
    ],
    [
      "convolutions it lacks",
      ["--network_dim=4", "--network_args", "conv_dim=2"],
      3,
      "E_INCOMPATIBLE",
      "Leave conv_dim out of --network_args",
    ],
  ])("%s", async (_, args, status, code, remedy) => {
    const before = await readFile(trained);
    const out = join(await tempFolder(), "out");
    const terminal = memoryTerminal();
    const trainsText = args.includes("--train_text_encoder");
    const exitCode = await runCli(
      [
        "train",
        `--pretrained_model_name_or_path=${TINY_MODEL}`,
        `--train_data_dir=${pictures}`,
        "--resolution=16",
        "--device=cpu",
        `--network_weights=${trained}`,
        `--output_dir=${out}`,
        ...(trainsText ? [] : ["--network_train_unet_only"]),
        ...args.filter((arg) => arg !== "--train_text_encoder"),
      ],
      terminal,
    );
    const { text } = terminal.stderr;
    expect(exitCode, text).toBe(status);
    expect(text).toContain(`error[${code}]: --network_weights: `);
    expect(text).toMatch(/lora_(unet|te)_\w+/);
    expect(text).toContain(remedy);
    expect(text).toContain(NOTE);
    expect(await readdir(out)).toEqual([]);
    expect((await readFile(trained)).equals(before)).toBe(true);
  });

  test.skipIf(!existsSync(GOLDEN))("the adapter of another base model", async () => {
    const networkWeights = join(GOLDEN, "sd2-tiny/lora.safetensors");
    await expect(startFrom(networkWeights)).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
      exitCode: 3,
      message: expect.stringContaining("match adapter and base model"),
    });
  });
});
