import { expect, it } from "vitest";
import { readBaseModel } from "./base-model.js";
import { readDyloraFacts } from "./dylora-facts.js";
import { buildTrainingMetadata, type TrainingMetadataInput } from "./training-metadata.js";

const INPUT: TrainingMetadataInput = {
  run: {
    sessionId: 1234567890,
    startedAt: new Date(1_781_000_000_123),
    finishedAt: new Date(2026, 1, 3, 4, 5, 6, 789),
    outputName: "cat",
    seed: 42,
    steps: 100,
    epoch: 2,
    maxTrainSteps: 400,
    numEpochs: 8,
    numBatchesPerEpoch: 50,
  },
  network: {
    module: "networks.dylora",
    dim: 16,
    alpha: 4,
    args: { unit: "4", conv_dim: "8", conv_alpha: "2", alpha_rule: "paper", update_mode: "full" },
  },
  optimizer: {
    learningRate: 1e-4,
    unetLr: null,
    textEncoderLr: 5e-5,
    optimizer: "AdamW(weight_decay=0.01)",
    lrScheduler: "cosine",
    lrWarmupSteps: 10,
    maxGradNorm: 1,
    gradientAccumulationSteps: 2,
    mixedPrecision: "fp16",
    gradientCheckpointing: true,
  },
  base: {
    version: "sd_v2_v",
    isV2: true,
    name: "768-v-ema.safetensors",
    shortHash: "e1441589",
    sha256: "ab".repeat(32),
  },
  data: {
    numTrainImages: 60,
    numValidationImages: 6,
    batchSize: 4,
    resolution: [768, 512],
    datasetDirs: { "10_猫 cat": { numRepeats: 10, imageCount: 6 } },
    tagFrequency: { "10_猫 cat": { "a cat": 6 } },
    clipSkip: 2,
    cacheLatents: true,
    validationSplit: 0.1,
    validationSeed: 7,
  },
  loss: { minSnrGamma: 5, noiseOffset: 0.05 },
  modelSpec: {
    baseModel: "sd2",
    isVPrediction: true,
    implementationVersion: "dylora/0.1.0",
    texts: { author: "me" },
  },
};

it("writes sd-scripts' keys as Python prints them", () => {
  const metadata = buildTrainingMetadata(INPUT);
  expect(metadata).toMatchObject({
    ss_session_id: "1234567890",
    ss_training_started_at: "1781000000.123",
    ss_output_name: "cat",
    ss_training_comment: "None",
    ss_seed: "42",
    ss_steps: "100",
    ss_epoch: "2",
    ss_max_train_steps: "400",
    ss_network_module: "networks.dylora",
    ss_network_dim: "16",
    ss_network_alpha: "4.0",
    ss_network_args:
      '{"unit": "4", "conv_dim": "8", "conv_alpha": "2", "alpha_rule": "paper", "update_mode": "full"}',
    ss_learning_rate: "0.0001",
    ss_unet_lr: "None",
    ss_text_encoder_lr: "5e-05",
    ss_optimizer: "AdamW(weight_decay=0.01)",
    ss_max_grad_norm: "1.0",
    ss_batch_size_per_device: "4",
    ss_total_batch_size: "8",
    ss_resolution: "(768, 512)",
    ss_clip_skip: "2",
    ss_cache_latents: "True",
    ss_enable_bucket: "False",
    ss_dataset_dirs: '{"10_\\u732b cat": {"n_repeats": 10, "img_count": 6}}',
    ss_tag_frequency: '{"10_\\u732b cat": {"a cat": 6}}',
    ss_v2: "True",
    ss_base_model_version: "sd_v2_v",
    ss_sd_model_name: "768-v-ema.safetensors",
    ss_sd_model_hash: "e1441589",
    ss_new_sd_model_hash: "ab".repeat(32),
    ss_min_snr_gamma: "5.0",
    ss_noise_offset: "0.05",
    ss_validation_split: "0.1",
    ss_validation_seed: "7",
    ss_mixed_precision: "fp16",
    ss_gradient_checkpointing: "True",
    "modelspec.sai_model_spec": "1.0.1",
    "modelspec.architecture": "stable-diffusion-v2-768-v/lora",
    "modelspec.implementation": "diffusers",
    "modelspec.title": "cat",
    "modelspec.resolution": "768x512",
    "modelspec.date": "2026-02-03T04:05:06",
    "modelspec.prediction_type": "v",
    "modelspec.encoder_layer": "2",
    "modelspec.implementation_version": "dylora/0.1.0",
    "modelspec.author": "me",
  });
  expect(Object.values(metadata).every((value) => typeof value === "string")).toBe(true);
  expect(metadata).not.toHaveProperty("ss_vae_name");
});

it("is read back by this project", () => {
  const metadata = buildTrainingMetadata(INPUT);
  expect(readDyloraFacts(metadata, 16)).toEqual({
    isDylora: true,
    unit: 4,
    alphaRule: "paper",
    alphaRuleSource: "metadata",
    updateMode: "full",
    trainedRanks: null,
    maxRank: 16,
    problems: [],
  });
  expect(readBaseModel(metadata, [])).toEqual({
    stated: "sd_v2_v",
    fromMetadata: "sd2",
    fromShapes: null,
    predictionType: "v_prediction",
  });
});

it("with minimal writes what a loader and a trainer need, and modelspec", () => {
  const keys = Object.keys(buildTrainingMetadata({ ...INPUT, minimal: true }));
  expect(keys.filter((key) => !key.startsWith("modelspec.")).sort()).toEqual([
    "ss_base_model_version",
    "ss_network_alpha",
    "ss_network_args",
    "ss_network_dim",
    "ss_network_module",
    "ss_v2",
  ]);
  expect(keys.filter((key) => key.startsWith("modelspec.")).length).toBe(10);
});

it("writes the VAE, the buckets and the architecture where there are any", () => {
  const metadata = buildTrainingMetadata({
    ...INPUT,
    base: { ...INPUT.base, vae: { name: "vae.safetensors", shortHash: "12345678", sha256: "cd".repeat(32) } },
    data: {
      ...INPUT.data,
      buckets: {
        min: 256,
        max: 1024,
        steps: 64,
        noUpscale: true,
        sizes: [
          { resolution: [448, 576], count: 30 },
          { resolution: [512, 512], count: 2 },
        ],
        meanAspectError: 0,
      },
    },
    modelSpec: {
      ...INPUT.modelSpec,
      baseModel: "sd1",
      isVPrediction: false,
      timestepRange: [0, 500],
      title: "Cats",
    },
  });
  expect(metadata).toMatchObject({
    ss_vae_name: "vae.safetensors",
    ss_vae_hash: "12345678",
    ss_new_vae_hash: "cd".repeat(32),
    ss_enable_bucket: "True",
    ss_bucket_no_upscale: "True",
    ss_min_bucket_reso: "256",
    ss_max_bucket_reso: "1024",
    ss_bucket_reso_steps: "64",
    ss_bucket_info:
      '{"buckets": {"0": {"resolution": [448, 576], "count": 30}, "1": {"resolution": [512, 512], "count": 2}}, "mean_img_ar_error": 0.0}',
    "modelspec.architecture": "stable-diffusion-v1/lora",
    "modelspec.prediction_type": "epsilon",
    "modelspec.timestep_range": "0,500",
    "modelspec.title": "Cats",
  });
});
