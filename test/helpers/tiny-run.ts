/** The smallest training runs that are real ones: the bundled checkpoint, a few pictures, 16 x 16 pixels. */
import { copyFile, mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { bench } from "../../src/evaluation/bench.js";
import { type BenchConfigInput, createBenchConfig } from "../../src/evaluation/bench-config.js";
import type { BenchHooks, BenchReport } from "../../src/evaluation/bench-types.js";
import { SafetensorsFile } from "../../src/safetensors/index.js";
import { createTrainConfig, type TrainConfig, type TrainConfigInput } from "../../src/training/config.js";
import type { TrainEvent, TrainHooks, TrainResult } from "../../src/training/events.js";
import { type MetricsRecord, readMetrics } from "../../src/training/metrics-log.js";
import { train } from "../../src/training/train.js";
import { tempFolder } from "./temp-folder.js";

const fixture = (path: string) => fileURLToPath(new URL(`../../fixtures/${path}`, import.meta.url));

export const TINY_MODEL = fixture("sd1-tiny.safetensors");
const PICTURES = fixture("emoji/train/10_emoji");

/** Golden data lies beside the clone where this project is developed; not everywhere. */
export const GOLDEN = fileURLToPath(new URL("../../../shared/golden", import.meta.url));

/** Training sessions start in seconds, and on a busy machine in many of them. */
export const SLOW_MS = 300_000;

/**
 * A data folder with the first pictures of the fixtures and their captions.
 *
 * @param subset - the folder inside, `2_emoji` for instance
 * @param from - the first picture
 */
export async function pictureFolder(count: number, subset = "2_emoji", from = 0): Promise<string> {
  const root = await tempFolder();
  await mkdir(join(root, subset));
  const names = (await readdir(PICTURES)).filter((name) => name.endsWith(".png")).sort();
  for (const name of names.slice(from, from + count)) {
    for (const file of [name, name.replace(/png$/, "txt")]) {
      await copyFile(join(PICTURES, file), join(root, subset, file));
    }
  }
  return root;
}

/** Options that sort pictures into buckets of about 32 x 32 pixels: 16x48, 16x64, 32x32, 48x16 and 64x16. */
export const TINY_BUCKETS = {
  resolution: { width: 32, height: 32 },
  enableBucket: true,
  minBucketReso: 16,
  maxBucketReso: 64,
  bucketResoSteps: 16,
} as const satisfies Partial<TrainConfig>;

/**
 * A data folder with noisy pictures of the given sizes.
 *
 * @param subset - the folder inside
 */
export async function shapedFolder(
  sizes: readonly (readonly [width: number, height: number])[],
  subset = "1_shape",
): Promise<string> {
  const root = await tempFolder();
  await mkdir(join(root, subset));
  for (const [index, [width, height]] of sizes.entries()) {
    const pixels = Uint8Array.from(
      { length: width * height * 3 },
      (_, i) => ((i + index) * 2654435761) >>> 24,
    );
    await sharp(pixels, { raw: { width, height, channels: 3 } })
      .png()
      .toFile(join(root, subset, `${index}.png`));
    await writeFile(join(root, subset, `${index}.txt`), `a shape, ${width > height ? "wide" : "tall"}`);
  }
  return root;
}

/** Options of a run of seconds. One thread: two test files run at a time, and threads that wait for each other wait long. */
export const TINY_OPTIONS = {
  pretrainedModelNameOrPath: TINY_MODEL,
  resolution: { width: 16, height: 16 },
  networkDim: 4,
  networkAlpha: 4,
  networkArgs: ["unit=2"],
  networkTrainUnetOnly: true,
  learningRate: 1e-2,
  maxTrainSteps: 3,
  seed: 7,
  device: "cpu",
  executionMode: "lean",
  threads: 1,
  maxDataLoaderNWorkers: 1,
} as const satisfies Partial<TrainConfig>;

export function tinyConfig(
  changes: Pick<TrainConfigInput, "trainDataDir" | "outputDir"> & Partial<TrainConfig>,
): TrainConfig {
  return createTrainConfig({ ...TINY_OPTIONS, ...changes });
}

export interface WatchedRun {
  readonly result: TrainResult;
  readonly events: readonly TrainEvent[];
}

/**
 * Runs `train` or `resume` and keeps what it reports.
 *
 * @param stopAt - the run is asked to stop, as Ctrl-C does, at the first event for which it holds
 */
export async function watch(
  run: (hooks: TrainHooks) => Promise<TrainResult>,
  stopAt: (event: TrainEvent) => boolean = () => false,
): Promise<WatchedRun> {
  const events: TrainEvent[] = [];
  const controller = new AbortController();
  const result = await run({
    onEvent(event) {
      events.push(event);
      if (stopAt(event)) controller.abort();
    },
    signal: controller.signal,
  });
  return { result, events };
}

/** Trains; @returns also the losses by step */
export async function trainTiny(config: TrainConfig): Promise<WatchedRun & { losses: number[] }> {
  const run = await watch((hooks) => train(config, hooks));
  return { ...run, losses: eventsOf(run.events, "step").map(({ loss }) => loss) };
}

export function eventsOf<Type extends TrainEvent["type"]>(
  events: readonly TrainEvent[],
  type: Type,
): Extract<TrainEvent, { type: Type }>[] {
  return events.filter((event): event is Extract<TrainEvent, { type: Type }> => event.type === type);
}

/** Measures files as `dylora bench` does. */
export async function benchTiny(
  files: readonly string[],
  changes: Omit<BenchConfigInput, "files" | "pretrainedModelNameOrPath">,
  hooks: Partial<BenchHooks> = {},
): Promise<BenchReport> {
  const { pretrainedModelNameOrPath, device, executionMode, threads } = TINY_OPTIONS;
  const given = { pretrainedModelNameOrPath, device, executionMode, threads, ...changes };
  const signal = new AbortController().signal;
  return bench(createBenchConfig({ ...given, files }), { onProgress: () => {}, signal, ...hooks });
}

/** What a metrics file says about the steps, without what a clock or the memory decides. */
export async function stepRecords(path: string): Promise<MetricsRecord[]> {
  const records = (await readMetrics(path)).filter((record) => "loss" in record);
  return records.map(({ secondsPerStep: _time, rssBytes: _memory, ...record }) => record as MetricsRecord);
}

export async function metadataOf(path: string): Promise<Readonly<Record<string, string>>> {
  await using file = await SafetensorsFile.open(path);
  return file.header.metadata ?? {};
}

/** `sshs_model_hash` of a LoRA file: the SHA-256 of all its tensors. */
export async function modelHash(path: string): Promise<string> {
  return (await metadataOf(path)).sshs_model_hash!;
}

/** All tensors of a file as they lie in it. */
export async function rawTensors(
  path: string,
): Promise<Map<string, { dtype: string; shape: readonly number[]; bytes: Uint8Array }>> {
  await using file = await SafetensorsFile.open(path);
  const tensors = new Map();
  for (const { name, dtype, shape } of file.header.tensors.values()) {
    tensors.set(name, { dtype, shape, bytes: (await file.read(name)).slice() });
  }
  return tensors;
}
