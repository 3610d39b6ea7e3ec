/**
 * The whole training step on WebGPU.
 *
 * Runs on whatever adapter Vulkan, Metal or Direct3D offers, a driver in software included. Without a GPU: Mesa's lavapipe
 * (Debian, Ubuntu: `mesa-vulkan-drivers`; version 25 was tried, 22 is too old), which knows float16, or with
 * VK_DRIVER_FILES=/usr/lib/chromium/vk_swiftshader_icd.json the slower SwiftShader of Debian's chromium. The operators one
 * by one, on any device: `DYLORA_TEST_DEVICE=webgpu npx vitest run src/graph/ops`.
 */
import { afterAll, beforeAll, describe, test } from "vitest";
import type { Denoiser } from "../src/denoiser/denoiser.js";
import { probeDevice } from "../src/runtime/probe.js";
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

/** A driver in software compiles the shaders of a step for minutes. */
const COMPILING_MS = 900_000;

const adapter = await probeDevice("webgpu");
const unless = adapter.works ? "" : ` (skipped: ${adapter.problem})`;

describe.skipIf(!adapter.works)(`the training step on WebGPU${unless}`, { timeout: COMPILING_MS }, () => {
  let model: MinimalModel;
  let cpu: Denoiser;
  let gpu: Denoiser;

  beforeAll(async () => {
    model = await minimalModel(await tempFolder(), "F16");
    cpu = minimalDenoiser(model, { device: "cpu" });
    // Sessions on a GPU refuse operators that would run on the CPU.
    gpu = minimalDenoiser(model, { device: "webgpu" });
  });
  afterAll(async () => {
    await cpu.release();
    await gpu.release();
  });

  test.each([1, MINIMAL_RANK])("answers what the CPU answers, at rank %i", async (rank) => {
    const modules = minimalModules(model, rank);
    const expected = await cpu.inspect(model.batch, modules);
    // 1e-4: a GPU may round division, square root and exp by several units, and sums in another order.
    expectAgreement(await gpu.inspect(model.batch, modules), expected, { tolerance: 1e-4 });
  });

  const withoutFloat16 = adapter.works && adapter.float16 ? "" : " (skipped: this adapter has no float16)";
  test.skipIf(withoutFloat16 !== "")(
    `answers in float16 what the CPU answers in float32${withoutFloat16}`,
    async () => {
      const half = minimalDenoiser(model, { device: "webgpu", computeType: "float16" });
      for (const rank of [1, MINIMAL_RANK]) {
        const modules = minimalModules(model, rank);
        const expected = await cpu.inspect(model.batch, modules);
        const answer = await half.inspect(scaledBatch(model, 1024), modules);
        expectAgreement(answer, expected, { tolerance: 2e-2, gradientScale: 1024 });
      }
      await half.release();
    },
  );
});
