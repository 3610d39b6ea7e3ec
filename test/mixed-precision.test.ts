/** The float16 graph without a GPU: onnxruntime's CPU kernels compute it in float32 and round in between. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Denoiser } from "../src/denoiser/denoiser.js";
import { train } from "../src/training/train.js";
import { expectAgreement } from "./helpers/expect-agreement.js";
import {
  MINIMAL_RANK,
  type MinimalModel,
  minimalDenoiser,
  minimalModel,
  minimalModules,
  scaledBatch,
} from "./helpers/minimal-denoiser.js";
import { tempFolder } from "./helpers/temp-folder.js";
import { pictureFolder, SLOW_MS, tinyConfig } from "./helpers/tiny-run.js";

const SCALE = 1024;

describe("the training step in mixed precision", { timeout: SLOW_MS }, () => {
  let model: MinimalModel;
  let whole: Denoiser;

  beforeAll(async () => {
    model = await minimalModel(await tempFolder(), "F16");
    whole = minimalDenoiser(model, { device: "cpu" });
  });
  afterAll(() => whole.release());

  test.each([false, true])(
    "is that in float32 within 2e-2 (gradient checkpointing: %s)",
    async (checkpointing) => {
      const half = minimalDenoiser(model, {
        device: "cpu",
        computeType: "float16",
        gradientCheckpointing: checkpointing,
      });
      for (const rank of [1, MINIMAL_RANK]) {
        const modules = minimalModules(model, rank);
        const expected = await whole.inspect(model.batch, modules);
        const answer = await half.inspect(scaledBatch(model, SCALE), modules);
        expectAgreement(answer, expected, { tolerance: 2e-2, gradientScale: SCALE });
        // Rounded it is all the same: another number than in float32.
        expect(answer.prediction).not.toEqual(expected.prediction);
      }
      await half.release();
    },
  );
});

test("is refused on the CPU before anything is started", { timeout: SLOW_MS }, async () => {
  const config = tinyConfig({
    trainDataDir: await pictureFolder(1),
    outputDir: await tempFolder(),
    mixedPrecision: "fp16",
  });
  const hooks = { onEvent: () => {}, signal: new AbortController().signal };
  await expect(train(config, hooks)).rejects.toMatchObject({
    code: "E_DEVICE",
    message:
      "mixed precision fp16 is not available on cpu: onnxruntime's CPU kernels compute in float32, and converting would only cost time",
  });
});
