import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { benchTiny, pictureFolder, SLOW_MS, TINY_MODEL, TINY_OPTIONS } from "../../test/helpers/tiny-run.js";
import { writeAdapter } from "../adapter/index.js";
import { openCheckpoint } from "../models/checkpoint/index.js";
import { type LoraTarget, loraTargets } from "../models/lora-targets.js";
import { completeOptions } from "../options/read-options.js";
import { freshModule } from "../training/network.js";
import { bench } from "./bench.js";
import { BENCH_OPTIONS, type BenchProgress } from "./bench-types.js";

/** What a run of this project writes into its files, as far as bench reads it. */
const METADATA = {
  ss_network_module: "networks.dylora",
  ss_network_args: JSON.stringify({ unit: "2", alpha_rule: "paper" }),
  ss_resolution: "(16, 16)",
};

let folder: string;
let pictures: string;
let all: readonly LoraTarget[];
let dylora: string;

beforeAll(async () => {
  folder = await tempFolder();
  pictures = await pictureFolder(3, "1_emoji");
  const checkpoint = await openCheckpoint(TINY_MODEL);
  all = loraTargets({ unet: checkpoint.unet.config, textEncoder: checkpoint.textEncoder.config });
  dylora = await write("dylora", /unet_up_blocks_3_attentions_2_proj_out$/, 0.3);
}, SLOW_MS);

/** A DyLoRA of rank 4 on the targets of these names, with `up` of this size. */
async function write(name: string, wanted: RegExp, size: number, metadata = METADATA): Promise<string> {
  const path = join(folder, `${name}.safetensors`);
  const modules = all
    .filter((target) => wanted.test(target.name))
    .map((target) => {
      const { down, up } = freshModule(target, 4, 4, 1);
      return { ...target, rank: 4, alpha: 4, down, upT: up.map((_, index) => size * Math.sin(index)) };
    });
  await writeAdapter(path, modules, { metadata, dtype: "F32", overwrite: true });
  return path;
}

describe("bench", () => {
  test(
    "files with different modules are measured in one go, each as it is alone",
    async () => {
      const text = await write("text", /^lora_te_.*layers_0_mlp_fc1/, 0.3);
      const together = await benchTiny([dylora, text], { data: pictures, samples: 2 });
      expect(together).toMatchObject({ imageCount: 3, sampleCount: 6, width: 16, height: 16, device: "cpu" });
      expect(together.files.map(({ path }) => path)).toEqual([dylora, text]);
      expect(together.warnings).toEqual([]);

      const alone = await benchTiny([dylora], { data: pictures, samples: 2 });
      expect(alone.baseMeanLoss / together.baseMeanLoss).toBeCloseTo(1, 5);
      const means = (report: typeof alone) => report.files[0]!.ranks.map(({ meanLoss }) => meanLoss);
      expect(means(alone)).toHaveLength(2);
      for (const [index, mean] of means(alone).entries()) {
        expect(mean / means(together)[index]!).toBeCloseTo(1, 5);
      }
    },
    SLOW_MS,
  );

  test(
    "ranks are compared with the full rank and with the base model, in pairs",
    async () => {
      const report = await benchTiny([dylora], { data: pictures, samples: 2, ranks: [0, 2] });
      const [{ ranks, recommendedRank, recommendation, maxRank }] = report.files as [
        (typeof report.files)[0],
      ];
      expect(maxRank).toBe(4);
      expect(ranks.map(({ rank }) => rank)).toEqual([2, 4]);
      const [half, full] = ranks;
      expect(full!.versusFullRank).toBeNull();
      expect(half!.versusFullRank!.mean).toBeCloseTo(half!.meanLoss - full!.meanLoss, 6);
      for (const { meanLoss, versusBase } of ranks) {
        expect(versusBase.mean).toBeCloseTo(meanLoss - report.baseMeanLoss, 6);
        expect(versusBase.ciLow).toBeLessThanOrEqual(versusBase.mean);
        expect(versusBase.ciHigh).toBeGreaterThanOrEqual(versusBase.mean);
      }
      expect([0, 2, 4]).toContain(recommendedRank);
      expect(recommendation).not.toBe("");
      expect(half!.fileSizeBytes).toBeLessThan(full!.fileSizeBytes);
    },
    SLOW_MS,
  );

  test(
    "a broken picture is left out with a warning; a limit draws pictures by seed",
    async () => {
      const data = await pictureFolder(4, "1_emoji");
      await writeFile(join(data, "1_emoji", "broken.png"), "no picture");
      const report = await benchTiny([dylora], { data, samples: 1, ranks: [4] });
      expect(report.imageCount).toBe(4);
      expect(report.warnings.join("\n")).toMatch(/skipped 1 image[\s\S]*broken\.png/);
      const some = await benchTiny([dylora], { data: pictures, samples: 1, ranks: [4], maxImages: 1 });
      expect(some).toMatchObject({ imageCount: 1, sampleCount: 1 });
    },
    SLOW_MS,
  );

  test(
    "what the adapter was trained with decides noises and target, with a word about it",
    async () => {
      const measure = async (metadata: Record<string, string>) => {
        const path = await write("other", /mid_block_attentions_0_proj_out$/, 0, {
          ...METADATA,
          ...metadata,
        });
        const { baseMeanLoss, warnings } = await benchTiny([path], {
          data: pictures,
          samples: 1,
          ranks: [4],
        });
        return { baseMeanLoss, warnings };
      };
      const plain = await measure({});
      const velocity = await measure({ ss_v2: "True", "modelspec.prediction_type": "v" });
      expect(velocity.warnings.join()).toContain("v_prediction");
      expect(velocity.baseMeanLoss).not.toBe(plain.baseMeanLoss);
      const rescaled = await measure({ ss_zero_terminal_snr: "True" });
      expect(rescaled.baseMeanLoss).not.toBe(plain.baseMeanLoss);
    },
    SLOW_MS,
  );

  test(
    "an adapter that computes nothing finite is named, with its rank",
    async () => {
      const broken = await write("broken", /mid_block_attentions_0_proj_out$/, 1e38);
      await expect(benchTiny([broken], { data: pictures, samples: 1 })).rejects.toMatchObject({
        code: "E_DIVERGED",
        exitCode: 5,
        message: expect.stringContaining(`bench: rank 2 of ${broken}: the loss on 1_emoji/`),
      });
    },
    SLOW_MS,
  );

  test("tells what it does, and stops when asked", { timeout: SLOW_MS }, async () => {
    const { device, executionMode, threads, pretrainedModelNameOrPath } = TINY_OPTIONS;
    const options = completeOptions(
      { command: "bench", table: BENCH_OPTIONS },
      { device, executionMode, threads, pretrainedModelNameOrPath, data: pictures },
      "E_USAGE",
    );
    const controller = new AbortController();
    const seen: BenchProgress[] = [];
    const stopped = bench(
      { ...options, files: [dylora] },
      {
        signal: controller.signal,
        onProgress: (progress) => {
          seen.push(progress);
          if (progress.task.startsWith("rank 2")) controller.abort();
        },
      },
    );
    await expect(stopped).rejects.toMatchObject({ name: "AbortError" });
    expect([...new Set(seen.map(({ task }) => task))]).toEqual([
      "encoding images",
      "base model",
      `rank 2 of ${dylora}`,
    ]);
    expect(seen.at(-1)).toMatchObject({ done: 1, total: 12 });
  });
});
