import path from "node:path";
import { describe, expect, test } from "vitest";
import {
  bucketRulesOf,
  createTrainConfig,
  learningRatesOf,
  lrScheduleOptions,
  pointlessOptions,
  resumeTrainConfig,
  type TrainConfig,
  type TrainConfigInput,
} from "./config.js";

const required = { pretrainedModelNameOrPath: "/models/sd15.safetensors", trainDataDir: "/data/cats" };
const create = (options: Partial<TrainConfig> = {}) => createTrainConfig({ ...required, ...options });

function errorOf(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}

describe("createTrainConfig", () => {
  test("completes with sd-scripts' defaults", () => {
    expect(create()).toMatchObject({
      networkModule: "dylora",
      networkDim: 4,
      networkAlpha: 1,
      maxTrainSteps: 1600,
      trainBatchSize: 1,
      resolution: { width: 512, height: 512 },
      maxGradNorm: 1,
      lrScheduler: "constant",
      outputName: "last",
      seed: null,
    });
  });

  test("is plain data: JSON gives it back", () => {
    const config = create({ networkArgs: ["unit=2"], resolution: { width: 64, height: 128 }, seed: 7 });
    expect(JSON.parse(JSON.stringify(config))).toEqual(config);
  });

  test("makes paths absolute, so that a state can be resumed from anywhere", () => {
    expect(create({ outputDir: "out", vae: "vae.safetensors" })).toMatchObject({
      outputDir: path.resolve("out"),
      vae: path.resolve("vae.safetensors"),
    });
  });

  test.each<[Partial<TrainConfig>, Partial<TrainConfig>]>([
    [{ networkAlpha: 0, networkDim: 16 }, { networkAlpha: 16 }],
    [{ cacheLatentsToDisk: true }, { cacheLatents: true }],
    [
      { minSnrGamma: 0, noiseOffset: 0 },
      { minSnrGamma: null, noiseOffset: null },
    ],
  ])("spells out %j as %j", (given, expected) => {
    expect(create(given)).toMatchObject(expected);
  });

  test("names every required option that is missing", () => {
    expect(errorOf(() => createTrainConfig({} as TrainConfigInput))).toMatchObject({
      code: "E_CONFIG",
      message: "train: --pretrained_model_name_or_path and --train_data_dir are missing",
    });
  });

  test("names the field that a misspelt one is most like", () => {
    expect(errorOf(() => create({ networkDimm: 8 } as Partial<TrainConfig>))).toMatchObject({
      code: "E_CONFIG",
      message: "train: unknown option networkDimm",
      note: "Did you mean networkDim?",
    });
  });

  test("checks values", () => {
    expect(errorOf(() => create({ networkDim: 0 }))).toMatchObject({
      code: "E_CONFIG",
      message: "train: networkDim expects a whole number of at least 1, found 0",
    });
    expect(errorOf(() => create({ mixedPrecision: "bf16" as "no" }))).toMatchObject({
      code: "E_CONFIG",
      note: expect.stringContaining("WebGPU has no bfloat16"),
    });
  });
});

describe("options that do not hold together", () => {
  test.each<[string, Partial<TrainConfig>, string]>([
    [
      "E_CONFIG",
      { networkTrainUnetOnly: true, networkTrainTextEncoderOnly: true },
      "train: --network_train_unet_only and --network_train_text_encoder_only exclude each other: leave both out to train both",
    ],
    [
      "E_CONFIG",
      { learningRate: 0 },
      "train: nothing would be trained: the learning rate of every trained component is 0",
    ],
    [
      "E_CONFIG",
      { networkTrainUnetOnly: true, unetLr: 0 },
      "train: nothing would be trained: the learning rate of every trained component is 0",
    ],
    [
      "E_CONFIG",
      { dimFromWeights: true },
      "train: --dim_from_weights needs a file: give it with --network_weights",
    ],
    [
      "E_CONFIG",
      { resolution: { width: 500, height: 512 } },
      "train: --resolution 500,512 is not a multiple of 8 pixels: use 512,512",
    ],
    [
      "E_CONFIG",
      { minTimestep: 500, maxTimestep: 500 },
      "train: --min_timestep 500 is not below --max_timestep 500: no timestep is left",
    ],
    [
      "E_CONFIG",
      { validationSplit: 0.1, validationDir: "/data/held" },
      "train: --validation_split and --validation_dir exclude each other: choose one",
    ],
    [
      "E_CONFIG",
      { validateEveryNSteps: 10 },
      "train: --validate_every_n_steps needs images to validate on: give --validation_split 0.1 or --validation_dir",
    ],
    [
      "E_CONFIG",
      { outputName: "out/cat" },
      'train: --output_name "out/cat" is not a plain name: folders belong into --output_dir, and .safetensors is added',
    ],
    ["E_CONFIG", { saveLastNSteps: 5 }, "train: --save_last_n_steps works with --save_every_n_steps only"],
    [
      "E_CONFIG",
      { logWith: "tensorboard" },
      "train: --log_with tensorboard needs a folder: give it with --logging_dir",
    ],
    ["E_RANK", { networkDim: 6, networkArgs: ["unit=4"] }, "the maximum rank 6 is not a multiple of unit 4"],
    ["E_CONFIG", { networkArgs: ["unti=4"] }, "network_args: unknown key unti; did you mean unit?"],
    ["E_CONFIG", { optimizerArgs: ["lr=1"] }, "optimizer_args: lr is not a key of dylora"],
    [
      "E_CONFIG",
      { lrScheduler: "cosine", lrWarmupSteps: 200, maxTrainSteps: 100 },
      "lr_warmup_steps: 200 steps do not fit into 100 training steps",
    ],
  ])("%s %j", (code, options, message) => {
    expect(errorOf(() => create(options))).toMatchObject({ code, message });
  });

  test("all of them are named at once", () => {
    const error = errorOf(() => create({ dimFromWeights: true, saveLastNSteps: 5 }));
    expect(error).toMatchObject({
      message:
        "train: 2 options do not hold together:\n  - --dim_from_weights needs a file: give it with --network_weights\n  - --save_last_n_steps works with --save_every_n_steps only",
    });
  });

  test("a warm-up in steps is not held against a run that counts epochs", () => {
    expect(create({ lrScheduler: "cosine", lrWarmupSteps: 5000, maxTrainEpochs: 10 }).lrWarmupSteps).toBe(
      5000,
    );
  });
});

describe("learningRatesOf", () => {
  test.each<[Partial<TrainConfig>, ReturnType<typeof learningRatesOf>]>([
    [{ learningRate: 1e-3 }, { unet: 1e-3, textEncoder: 1e-3 }],
    [
      { unetLr: 1e-4, textEncoderLr: 5e-5 },
      { unet: 1e-4, textEncoder: 5e-5 },
    ],
    [
      { learningRate: 1e-3, textEncoderLr: 0 },
      { unet: 1e-3, textEncoder: null },
    ],
    [
      { learningRate: 1e-3, networkTrainUnetOnly: true },
      { unet: 1e-3, textEncoder: null },
    ],
    [
      { learningRate: 1e-3, networkTrainTextEncoderOnly: true },
      { unet: null, textEncoder: 1e-3 },
    ],
  ])("%j", (options, expected) => {
    expect(learningRatesOf(create(options))).toEqual(expected);
  });
});

test("lrScheduleOptions hands every schedule option on", () => {
  const config = create({
    lrScheduler: "polynomial",
    lrSchedulerPower: 2,
    lrWarmupSteps: 0.1,
    learningRate: 1e-3,
  });
  expect(lrScheduleOptions(config, 500)).toEqual({
    name: "polynomial",
    totalSteps: 500,
    warmupSteps: 0.1,
    decaySteps: 0,
    numCycles: 1,
    power: 2,
    timescale: null,
    minLrRatio: null,
    learningRate: 1e-3,
    args: [],
  });
});

describe("buckets", () => {
  test("are off unless asked for; their bounds become multiples of the steps", () => {
    expect(bucketRulesOf(create())).toBeNull();
    expect(bucketRulesOf(create({ enableBucket: true, minBucketReso: 300, maxBucketReso: 1000 }))).toEqual({
      resolution: { width: 512, height: 512 },
      minSide: 256,
      maxSide: 1024,
      steps: 64,
      noUpscale: false,
    });
  });

  test("any resolution will do, since only its area counts", () => {
    const resolution = { width: 500, height: 700 };
    expect(create({ enableBucket: true, resolution }).resolution).toEqual(resolution);
    expect(() => create({ resolution })).toThrow(expect.objectContaining({ code: "E_CONFIG" }));
  });

  test.each<[Partial<TrainConfig>, string]>([
    [{ minBucketReso: 576 }, "--min_bucket_reso 576 is above --resolution 512,512: lower it to at most 512"],
    [{ maxBucketReso: 448 }, "--max_bucket_reso 448 is below --resolution 512,512: raise it to at least 512"],
    [
      { minBucketReso: 63 },
      "--min_bucket_reso is shorter than one step: give at least --bucket_reso_steps, 64",
    ],
  ])("%j does not hold together", (changes, message) => {
    expect(() => create({ enableBucket: true, ...changes })).toThrow(
      expect.objectContaining({ code: "E_CONFIG", message: `train: ${message}` }),
    );
    expect(create(changes)).toMatchObject(changes);
  });
});

describe("pointlessOptions", () => {
  const notesOn = (given: Partial<TrainConfig>) => pointlessOptions(create(given), given);

  test("says which of two totals counts", () => {
    expect(notesOn({ maxTrainEpochs: 10, maxTrainSteps: 500 })).toEqual([
      "--max_train_epochs 10 overrides --max_train_steps 500.",
    ]);
    expect(notesOn({ maxTrainEpochs: 10 })).toEqual([]);
  });

  test("says when options of buckets have no effect", () => {
    expect(notesOn({ minBucketReso: 320, bucketResoSteps: 64, bucketNoUpscale: true })).toEqual([
      "--min_bucket_reso, --bucket_reso_steps, --bucket_no_upscale: no effect without --enable_bucket.",
    ]);
    expect(notesOn({ enableBucket: true, maxBucketReso: 2048, bucketNoUpscale: true })).toEqual([
      "--max_bucket_reso: no effect with --bucket_no_upscale, where sizes follow the images.",
    ]);
    expect(notesOn({ enableBucket: true, maxBucketReso: 2048, bucketResoSteps: 64 })).toEqual([]);
  });

  test("says when a learning rate has nothing to work on", () => {
    expect(notesOn({ networkTrainUnetOnly: true, textEncoderLr: 1e-5 })).toEqual([
      "--text_encoder_lr has no effect: the text encoder is not trained (--network_train_unet_only).",
    ]);
  });
});

describe("resumeTrainConfig", () => {
  const saved = create({ networkDim: 16, networkArgs: ["unit=4"], seed: 1, maxTrainSteps: 100 });

  test("takes what may change", () => {
    expect(
      resumeTrainConfig(saved, { maxTrainSteps: 200, learningRate: 1e-5, outputDir: "/elsewhere" }),
    ).toEqual({
      ...saved,
      maxTrainSteps: 200,
      learningRate: 1e-5,
      outputDir: "/elsewhere",
    });
  });

  test("takes an option that repeats what the state has", () => {
    expect(resumeTrainConfig(saved, { networkDim: 16, networkArgs: ["unit=4"] })).toEqual(saved);
  });

  test("names every option that may not change, with both values", () => {
    expect(errorOf(() => resumeTrainConfig(saved, { networkDim: 32, seed: 2 }))).toMatchObject({
      code: "E_CONFIG",
      message: "resume: network_dim is 16 in the state, 32 was given; seed is 1 in the state, 2 was given",
    });
  });

  test("a new total in steps replaces a total in epochs", () => {
    const epochs = create({ maxTrainEpochs: 10 });
    expect(resumeTrainConfig(epochs, { maxTrainSteps: 500 })).toMatchObject({
      maxTrainSteps: 500,
      maxTrainEpochs: null,
    });
  });

  test("checks the new whole", () => {
    expect(errorOf(() => resumeTrainConfig(saved, { saveLastNSteps: 5 }))).toMatchObject({
      code: "E_CONFIG",
    });
  });
});
