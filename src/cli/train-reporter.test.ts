import path from "node:path";
import { describe, expect, test } from "vitest";
import { type MemoryTerminal, memoryTerminal } from "../../test/helpers/memory-terminal.js";
import type { StartEvent, StepEvent, TrainEvent } from "../training/events.js";
import { plainInterval, TrainReporter } from "./train-reporter.js";

const here = (name: string) => path.resolve(name);

const start: StartEvent = {
  type: "start",
  device: "cpu",
  provider: "CPUExecutionProvider",
  dtype: "float32",
  executionMode: "lean",
  residentStep: false,
  baseModel: { path: here("sd15.safetensors"), version: "sd_v1", predictionType: "epsilon" },
  network: {
    module: "dylora",
    maxRank: 16,
    unit: 4,
    alpha: 1,
    updateMode: "full",
    ranks: [4, 8, 12, 16],
    unetModules: 192,
    textEncoderModules: 72,
    trainableParameters: 9_437_184,
    trainablePercent: 0.96,
  },
  data: {
    imageCount: 60,
    samplesPerEpoch: 600,
    validationImageCount: 6,
    width: 512,
    height: 512,
    buckets: [],
  },
  batchSize: 1,
  gradientAccumulationSteps: 4,
  totalSteps: 2000,
  totalEpochs: 14,
  seed: 42,
  estimatedPeakBytes: 5_100_000_000,
  sharedWeightBytes: 0,
  outputDir: here("output"),
  report: "html",
  resumedFromStep: null,
};

const step = (number: number, more: Partial<StepEvent> = {}): StepEvent => ({
  type: "step",
  step: number,
  totalSteps: 2000,
  epoch: 1,
  loss: 0.1042,
  lossEma: 0.1187,
  ranks: [8],
  learningRates: { unet: 1e-4, textEncoder: 1e-4 },
  gradNorm: 0.5,
  secondsPerStep: 1.9,
  etaSeconds: 3540,
  rssBytes: 5_100_000_000,
  ...more,
});

function report(
  terminal: MemoryTerminal,
  events: TrainEvent[],
  json = false,
  millisecondsPerEvent = 0,
): void {
  let now = 0;
  const reporter = new TrainReporter(terminal, { json, now: () => now });
  for (const event of events) {
    reporter.event(event);
    now += millisecondsPerEvent;
  }
  reporter.close();
}

describe("a run with buckets", () => {
  test("lists its sizes, and says what sessions share", () => {
    const terminal = memoryTerminal();
    const buckets = [
      { width: 448, height: 576, imageCount: 40, sampleCount: 400 },
      { width: 512, height: 512, imageCount: 19, sampleCount: 190 },
      { width: 1024, height: 256, imageCount: 1, sampleCount: 10 },
    ];
    report(terminal, [
      {
        ...start,
        executionMode: "fast",
        data: { ...start.data, buckets },
        sharedWeightBytes: 1_700_000_000,
      },
    ]);
    const lines = terminal.stderr.text.split("\n");
    expect(lines.filter((line) => /fast mode|data|buckets|^ {11}|memory/.test(line))).toMatchInlineSnapshot(`
      [
        "  device   cpu (CPUExecutionProvider), float32, fast mode",
        "  data     60 images, 600 samples an epoch, 3 sizes of about the area of 512x512 px, 6 held out",
        "  buckets   448x576  40 images  400 samples",
        "            512x512  19 images  190 samples",
        "           1024x256    1 image   10 samples",
        "  memory   about 5.1 GB at the peak, 1.7 GB of it weights that sessions share: they lie in memory once",
      ]
    `);
  });
});

test("a state that has all its steps is not called one that goes on with the next", () => {
  const terminal = memoryTerminal();
  report(terminal, [{ type: "resuming", stateDir: here("output/last-state"), fromStep: 2, totalSteps: 2 }]);
  expect(terminal.stderr.text).toBe(
    "resuming from output/last-state: all 2 steps are done, the LoRA file is written\n",
  );
});

describe("without a terminal", () => {
  test("the start block says what will run on what", () => {
    const terminal = memoryTerminal();
    report(terminal, [start]);
    expect(terminal.stderr.text).toMatchInlineSnapshot(`
      "  model    sd15.safetensors (sd_v1, epsilon prediction)
        device   cpu (CPUExecutionProvider), float32, lean mode
        network  dylora, maximum rank 16, unit 4, update mode full, alpha 1
        trained  9,437,184 parameters (0.96 %) in 264 modules: 192 U-Net, 72 text encoder
        data     60 images, 600 samples an epoch, 512x512 px, 6 held out
        steps    2,000 (14 epochs), batch 1 x 4 micro-steps, seed 42
        memory   about 5.1 GB at the peak
        output   output
      "
    `);
    expect(terminal.stdout.text).toBe("");
  });

  test("a step line has everything in one line", () => {
    const terminal = memoryTerminal();
    report(terminal, [step(120)]);
    expect(terminal.stderr.text).toBe(
      "step 120/2000  loss 0.1042 (ema 0.1187)  rank 8  lr 1.0e-4  1.9 s/it  eta 59m  mem 5.1 GB\n",
    );
  });

  test("several ranks and learning rates are shown as such", () => {
    const terminal = memoryTerminal();
    report(terminal, [step(1, { ranks: [4, 12], learningRates: { unet: 1e-4, textEncoder: 5e-5 } })]);
    expect(terminal.stderr.text).toContain("rank 4-12  lr 1.0e-4/5.0e-5");
  });

  test("a log gets the first step, every n-th and the last, and no carriage return", () => {
    const terminal = memoryTerminal();
    report(
      terminal,
      Array.from({ length: 2000 }, (_, index) => step(index + 1)),
    );
    const shown = [...terminal.stderr.text.matchAll(/^step (\d+)\//gm)].map((match) => Number(match[1]));
    expect(shown).toEqual([1, ...Array.from({ length: 40 }, (_, index) => (index + 1) * 50)]);
    expect(terminal.stderr.text).not.toContain("\r");
    expect(terminal.stderr.text).not.toContain("\x1b");
  });

  test("slow steps are shown at least once a minute", () => {
    const terminal = memoryTerminal();
    report(
      terminal,
      Array.from({ length: 10 }, (_, index) => step(index + 1)),
      false,
      25_000,
    );
    const shown = [...terminal.stderr.text.matchAll(/^step (\d+)\//gm)].map((match) => Number(match[1]));
    expect(shown).toEqual([1, 4, 7, 10]);
  });

  test.each([
    [10, 1],
    [50, 1],
    [51, 2],
    [240, 5],
    [2000, 50],
    [100_000, 2000],
  ])("a run of %i steps shows every %i-th", (total, interval) => {
    expect(plainInterval(total)).toBe(interval);
  });

  test("what happens in between gets a line of its own", () => {
    const terminal = memoryTerminal();
    report(terminal, [
      { type: "resuming", stateDir: here("output/last-state"), fromStep: 400, totalSteps: 2000 },
      { type: "preparing", task: "encoding latents", done: 0, total: 60 },
      { type: "preparing", task: "encoding latents", done: 30, total: 60 },
      { type: "preparing", task: "building the training step", done: 0, total: null },
      {
        type: "validation",
        step: 500,
        epoch: 2,
        sampleCount: 12,
        byRank: [
          { rank: 4, loss: 0.1103 },
          { rank: 16, loss: 0.1042 },
        ],
      },
      {
        type: "sample",
        step: 500,
        path: here("output/sample/last_000500_00_20261103014509_42.png"),
        prompt: "a cat",
        seed: 42,
        rank: 16,
      },
      {
        type: "saved",
        kind: "weights",
        step: 500,
        path: here("output/last-step00000500.safetensors"),
        sizeBytes: 1_300_000,
      },
      { type: "warning", message: "1 image could not be read" },
      { type: "interrupted", step: 501, totalSteps: 2000, stateDir: here("my cats/last-step00000501-state") },
    ]);
    expect(terminal.stderr.text).toMatchInlineSnapshot(`
      "resuming at step 401 of 2000 from output/last-state
      encoding latents (60)
      building the training step
      validation at step 500  rank 4: 0.1103  rank 16: 0.1042  (12 samples)
      drew output/sample/last_000500_00_20261103014509_42.png (rank 16) at step 500
      saved output/last-step00000500.safetensors (1.3 MB) at step 500
      warning: 1 image could not be read
      interrupted at step 501 of 2000; the state is saved in my cats/last-step00000501-state
        go on with: dylora resume "my cats/last-step00000501-state"
      "
    `);
  });

  test("the end says on stdout where everything lies and what comes next", () => {
    const terminal = memoryTerminal();
    report(terminal, [
      start,
      {
        type: "end",
        steps: 2000,
        lossEma: 0.1187,
        seconds: 3725,
        peakRssBytes: 5_000_000_000,
        estimatedPeakBytes: 5_100_000_000,
        files: [
          { kind: "weights", path: here("output/last.safetensors"), sizeBytes: 18_900_000 },
          { kind: "metrics", path: here("output/metrics.jsonl"), sizeBytes: 312_000 },
        ],
      },
    ]);
    expect(terminal.stdout.text).toMatchInlineSnapshot(`
      "trained 2,000 steps in 1h 02m, loss 0.1187 (ema), peak memory 5.0 GB (estimated 5.1 GB)
        weights  output/last.safetensors (18.9 MB)
        metrics  output/metrics.jsonl (312 kB)
        next: dylora extract output/last.safetensors --all --out ranks
      "
    `);
  });
});

describe("on a terminal", () => {
  test("the step line is rewritten, cut to the width, and makes room for lines that stay", () => {
    const terminal = memoryTerminal({ isTerminal: true, columns: 40 });
    report(terminal, [step(1), step(2), { type: "warning", message: "careful" }, step(3)], false, 1000);
    expect(terminal.stderr.text.replaceAll("\x1b[2K", "<clear>").replaceAll("\r", "<cr>")).toBe(
      [
        "<cr><clear>step 1/2000  loss 0.1042 (ema 0.1187)  ".slice(0, 39 + 11),
        "<cr><clear>step 2/2000  loss 0.1042 (ema 0.1187)  ".slice(0, 39 + 11),
        "<cr><clear>warning: careful\n",
        "<cr><clear>step 3/2000  loss 0.1042 (ema 0.1187)  ".slice(0, 39 + 11),
        "<cr><clear>",
      ].join(""),
    );
  });

  test("fast steps do not flood it", () => {
    const terminal = memoryTerminal({ isTerminal: true });
    report(
      terminal,
      Array.from({ length: 100 }, (_, index) => step(index + 1)),
      false,
      10,
    );
    expect(terminal.stderr.text.match(/step \d+\//g)).toHaveLength(10);
  });
});

test("with --json every event is a document in a line on stdout, and stderr stays empty", () => {
  const terminal = memoryTerminal({ isTerminal: true });
  const reporter = new TrainReporter(terminal, { json: true });
  reporter.note("--xformers is ignored");
  reporter.event(step(1, { gradNorm: Number.NaN }));
  reporter.close();
  const lines = terminal.stdout.text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(lines).toEqual([
    { schemaVersion: 1, type: "warning", message: "--xformers is ignored" },
    { schemaVersion: 1, ...step(1), gradNorm: null },
  ]);
  expect(terminal.stderr.text).toBe("");
});
