import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { benchTiny, pictureFolder, SLOW_MS, TINY_MODEL } from "../../test/helpers/tiny-run.js";
import { openAdapter, writeAdapter } from "../adapter/index.js";
import { openCheckpoint } from "../models/checkpoint/index.js";
import { type LoraTarget, loraTargets } from "../models/lora-targets.js";
import { convert } from "../surgery/convert/convert.js";
import { planConvert } from "../surgery/convert/plan.js";
import { extract, planExtract } from "../surgery/index.js";
import { freshModule } from "../training/network.js";
import type {
  BenchPlan,
  BenchProgress,
  BenchReport,
  MeasuredModels,
  MultiplierResult,
} from "./bench-types.js";

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

/** Everything that was measured of one file, rank by rank and strength by strength. */
const resultsOf = (report: BenchReport, file = 0): readonly MultiplierResult[] =>
  report.files[file]!.ranks.flatMap(({ multipliers }) => multipliers);
const lossesOf = (report: BenchReport, file = 0) => resultsOf(report, file).map(({ meanLoss }) => meanLoss);

/** How many losses a run computed, and how many it knew. */
const counts = ({ extent }: BenchReport) => [extent.measuredLosses, extent.reusedLosses];

describe("bench", () => {
  test("files with different modules are measured in one go, each as it is alone", {
    timeout: SLOW_MS,
  }, async () => {
    const text = await write("text", /^lora_te_.*layers_0_mlp_fc1/, 0.3);
    const together = await benchTiny([dylora, text], { data: pictures });
    expect(together.extent).toMatchObject({ imageCount: 3, drawsPerImage: 4, sampleCount: 12 });
    expect(together.settings).toMatchObject({ width: 16, height: 16, device: "cpu" });
    expect(together.files.map(({ path, name }) => [path, name])).toEqual([
      [dylora, "dylora.safetensors"],
      [text, "text.safetensors"],
    ]);
    expect(together.warnings).toEqual([
      expect.stringMatching(/^Intervals of 3 images .* measure on 5 or more/),
    ]);

    const alone = await benchTiny([dylora], { data: pictures });
    expect(alone.base.meanLoss / together.base.meanLoss).toBeCloseTo(1, 5);
    expect(lossesOf(alone)).toHaveLength(2);
    for (const [index, loss] of lossesOf(alone).entries()) {
      expect(loss / lossesOf(together)[index]!).toBeCloseTo(1, 5);
    }
  });

  test("a file is compared with its full rank, the base model and the best, in pairs, by band and by image", {
    timeout: SLOW_MS,
  }, async () => {
    const report = await benchTiny([dylora], { data: pictures, ranks: [0, 2] });
    const { base, bands, images } = report;
    const [file] = report.files;
    expect(file).toMatchObject({ maxRank: 4, isDylora: true, dialect: "kohya" });
    expect(file!.ranks.map(({ rank }) => rank)).toEqual([2, 4]);
    const [half, full] = resultsOf(report);
    expect(full!.versusFullRank).toBeNull();
    expect(half!.versusFullRank!.mean).toBeCloseTo(half!.meanLoss - full!.meanLoss, 6);
    expect([half!.versusBest, full!.versusBest].filter((best) => best === null)).toHaveLength(1);
    expect(bands.map(({ firstTimestep }) => firstTimestep)).toEqual([0, 250, 500, 750]);
    expect(images.map(({ key }) => key)).toHaveLength(3);
    const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
    for (const { meanLoss, versusBase, bands: ofBands, lossByImage } of [half!, full!]) {
      expect(versusBase.mean).toBeCloseTo(meanLoss - base.meanLoss, 6);
      expect(versusBase.ciLow).toBeLessThan(versusBase.mean);
      expect(versusBase.ciHigh).toBeGreaterThan(versusBase.mean);
      expect(mean(lossByImage)).toBeCloseTo(meanLoss, 10);
      expect(mean(ofBands.map((band) => band.meanLoss))).toBeCloseTo(meanLoss, 10);
      for (const [band, summary] of ofBands.entries()) {
        expect(summary.versusBase.mean).toBeCloseTo(summary.meanLoss - base.bands[band]!, 10);
      }
    }
    expect(file!.recommendation.reason).not.toBe("");
    expect(report.recommendation).toMatchObject({ file: 0, ...file!.recommendation });
    const [small, large] = file!.ranks;
    expect(small!.fileSizeBytes).toBeLessThan(large!.fileSizeBytes);
    expect([small!.relativeSize, large!.relativeSize]).toEqual([
      small!.fileSizeBytes / large!.fileSizeBytes,
      1,
    ]);
    for (const seconds of [base.secondsPerStep, small!.secondsPerStep]) expect(seconds).toBeGreaterThan(0);
  });

  test("a strength scales the adapter: none is the base model, half is not the whole", {
    timeout: SLOW_MS,
  }, async () => {
    const report = await benchTiny([dylora], {
      data: pictures,
      ranks: [4],
      multiplier: [1, 0, 0.5],
      maxImages: 1,
    });
    expect(resultsOf(report).map(({ multiplier }) => multiplier)).toEqual([0, 0.5, 1]);
    const [none, half, whole] = lossesOf(report);
    expect(none).toBe(report.base.meanLoss);
    expect(new Set([none, half, whole]).size).toBe(3);
    // The base model, and the two that are something else.
    expect(counts(report)).toEqual([3 * 4, 4]);
    expect(report.recommendation.reason).toMatch(/^Rank 4 at (0|0\.5|1) has the lowest loss/);
  });

  test("an extracted file, in every dialect, is its parent at that rank, and is not measured again", {
    timeout: SLOW_MS,
  }, async () => {
    const out = await tempFolder();
    await using parent = await openAdapter(dylora);
    const { outputs } = await extract(planExtract(parent, { ranks: [2] }, { outDir: out }));
    await using copy = await openAdapter(outputs[0]!.path);
    const peft = join(out, "peft");
    const diffusers = join(out, "diffusers.safetensors");
    await convert(await planConvert(copy, { to: "peft", path: peft }));
    await convert(await planConvert(copy, { to: "diffusers", path: diffusers }));
    const report = await benchTiny([dylora, copy.path, peft, diffusers], {
      data: pictures,
      ranks: [2],
      maxImages: 1,
    });
    expect(report.files.map(({ dialect }) => dialect)).toEqual(["kohya", "kohya", "peft", "diffusers"]);
    const [own] = lossesOf(report, 0);
    for (const file of [1, 2, 3]) expect(lossesOf(report, file)).toEqual([own]);
    expect(counts(report)).toEqual([3 * 4, 3 * 4]);
  });

  test("until its intervals are narrow enough it draws more, which are added to the first", {
    timeout: SLOW_MS,
  }, async () => {
    const first = await benchTiny([dylora], { data: pictures });
    const { halfWidth } = first.extent;
    expect(halfWidth).toBeGreaterThan(0);
    const wide = await benchTiny([dylora], { data: pictures, until: Math.min(0.99, 1.01 * halfWidth) });
    expect(wide.extent).toMatchObject({ drawsPerImage: 4, stoppedBy: "until", halfWidth });
    const narrow = await benchTiny([dylora], { data: pictures, until: 1e-9, samples: 8 });
    expect(narrow.extent).toMatchObject({ drawsPerImage: 8, stoppedBy: "samples" });
    expect(narrow.warnings.join()).toContain("--until 1e-9 was not reached");
    const one = await benchTiny([dylora], { data: pictures, until: 0.5, maxImages: 1, samples: 16 });
    expect(one.extent.drawsPerImage).toBe(4);
    expect(one.warnings.join()).toContain("One image gives no intervals");
  });

  test("what is in the cache is not measured again, whatever else is asked for", {
    timeout: SLOW_MS,
  }, async () => {
    const cache = join(await tempFolder(), "losses.jsonl");
    const common = { data: pictures, cache };
    const plans: BenchPlan[] = [];
    const first = await benchTiny(
      [dylora],
      { ...common, ranks: [4], maxImages: 2 },
      { onPlan: (plan) => plans.push(plan) },
    );
    expect(counts(first)).toEqual([2 * 2 * 4, 0]);
    expect(plans).toEqual([
      expect.objectContaining({ imageCount: 2, losses: 16, reusedLosses: 0, device: "cpu" }),
    ]);
    expect(plans[0]!.estimatedPeakBytes).toBeGreaterThan(1e8);

    const again = await benchTiny(
      [dylora],
      { ...common, ranks: [4], maxImages: 2 },
      { onPlan: (plan) => plans.push(plan) },
    );
    expect(counts(again)).toEqual([0, 16]);
    expect(plans).toHaveLength(1);
    const { date: _date, seconds: _seconds, peakRssBytes: _peak, extent: _extent, ...same } = first;
    expect(again).toMatchObject(same);

    // Another image, another rank, more draws.
    const more = await benchTiny([dylora], { ...common, samples: 8 });
    expect(counts(more)).toEqual([3 * 3 * 8 - 16, 16]);
    const lines = (await readFile(cache, "utf8")).trimEnd().split("\n").length - 1;
    expect(lines).toBe(3 * 3 * 8);

    // Nothing of it is true of another seed, size, caption or adapter of the same name.
    for (const change of [{ seed: 1 }, { resolution: { width: 32, height: 16 } }]) {
      expect(counts(await benchTiny([dylora], { ...common, ...change, maxImages: 1, ranks: [4] }))[1]).toBe(
        0,
      );
    }
    const caption = join(pictures, "1_emoji", (await captions())[0]!);
    const words = await readFile(caption, "utf8");
    await writeFile(caption, "something else");
    expect(counts(await benchTiny([dylora], { ...common, ranks: [4] }))).toEqual([8, 16]);
    await writeFile(caption, words);
    const other = await write("dylora", /unet_up_blocks_3_attentions_2_proj_out$/, 0.31);
    expect(counts(await benchTiny([other], { ...common, ranks: [4] }))).toEqual([12, 12]);
    await write("dylora", /unet_up_blocks_3_attentions_2_proj_out$/, 0.3);
  });

  test("a broken picture is left out with a warning; a limit draws pictures by seed", {
    timeout: SLOW_MS,
  }, async () => {
    const data = await pictureFolder(4, "1_emoji");
    await writeFile(join(data, "1_emoji", "broken.png"), "no picture");
    const report = await benchTiny([dylora], { data, samples: 1, ranks: [4] });
    expect(report.extent.imageCount).toBe(4);
    expect(report.warnings.join("\n")).toMatch(/skipped 1 image[\s\S]*broken\.png/);
    const some = await benchTiny([dylora], { data: pictures, samples: 1, ranks: [4], maxImages: 1 });
    expect(some.extent).toMatchObject({ imageCount: 1, sampleCount: 4, halfWidth: Number.POSITIVE_INFINITY });
  });

  test("what the adapter was trained with decides noises and target, with a word about it", {
    timeout: SLOW_MS,
  }, async () => {
    const measure = async (metadata: Record<string, string>) => {
      const path = await write("other", /mid_block_attentions_0_proj_out$/, 0, { ...METADATA, ...metadata });
      const { base, warnings } = await benchTiny([path], { data: pictures, samples: 1, ranks: [4] });
      return { baseLoss: base.meanLoss, warnings };
    };
    const plain = await measure({});
    const velocity = await measure({ ss_v2: "True", "modelspec.prediction_type": "v" });
    expect(velocity.warnings.join()).toContain("v_prediction");
    expect(velocity.baseLoss).not.toBe(plain.baseLoss);
    const rescaled = await measure({ ss_zero_terminal_snr: "True" });
    expect(rescaled.baseLoss).not.toBe(plain.baseLoss);
  });

  test("an adapter that computes nothing finite is named, with its rank", { timeout: SLOW_MS }, async () => {
    const broken = await write("broken", /mid_block_attentions_0_proj_out$/, 1e38);
    await expect(benchTiny([broken], { data: pictures, samples: 1 })).rejects.toMatchObject({
      code: "E_DIVERGED",
      exitCode: 5,
      message: expect.stringContaining("bench: rank 2 of broken.safetensors: the loss on 1_emoji/"),
    });
  });

  test("tells what it does, and stops when asked, with what it measured kept", {
    timeout: SLOW_MS,
  }, async () => {
    const controller = new AbortController();
    const seen: BenchProgress[] = [];
    const cache = join(await tempFolder(), "losses.jsonl");
    const stopped = benchTiny(
      [dylora],
      { data: pictures, cache },
      {
        signal: controller.signal,
        onProgress(progress) {
          seen.push(progress);
          if (progress.done === 5) controller.abort();
        },
      },
    );
    await expect(stopped).rejects.toMatchObject({ name: "AbortError" });
    const tasks = ["base model", "rank 2 of dylora.safetensors", "rank 4 of dylora.safetensors"];
    expect([...new Set(seen.map(({ task }) => task))]).toEqual(["encoding images", ...tasks]);
    const measuring = seen.filter(({ task }) => tasks.includes(task));
    expect(measuring.map(({ done, total }) => [done, total])).toEqual(
      [1, 2, 3, 4, 5].map((done) => [done, 36]),
    );
    expect(measuring.map(({ secondsLeft }) => secondsLeft === null)).toEqual([
      true,
      true,
      false,
      false,
      false,
    ]);
    expect(counts(await benchTiny([dylora], { data: pictures, cache }))).toEqual([31, 5]);
  });

  test("hands over what it measured with, for pictures", { timeout: SLOW_MS }, async () => {
    let handed: MeasuredModels | null = null;
    const onMeasured = async (measured: MeasuredModels) => {
      handed = measured;
    };
    const report = await benchTiny([dylora], { data: pictures, maxImages: 1, ranks: [4] }, { onMeasured });
    expect(handed).toMatchObject({ report, checkpoint: { path: TINY_MODEL } });
    expect(handed!.adapters.map(({ path }) => path)).toEqual([dylora]);
  });
});

const captions = async () =>
  (await readdir(join(pictures, "1_emoji"))).filter((name) => name.endsWith(".txt")).sort();
