import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readMetrics } from "../../src/training/metrics-log.js";
import { resume } from "../../src/training/train.js";
import { castagnoli, type LoggedEvent, readEventFile, readEvents } from "../helpers/read-event-file.js";
import { tempFolder } from "../helpers/temp-folder.js";
import { eventsOf, pictureFolder, SLOW_MS, tinyConfig, trainTiny, watch } from "../helpers/tiny-run.js";

describe("the independent reader", () => {
  // RFC 3720, appendix B.4
  test.each([
    [new Uint8Array(32), 0x8a9136aa],
    [new Uint8Array(32).fill(0xff), 0x62a8ab43],
    [Uint8Array.from({ length: 32 }, (_, index) => index), 0x46dd794e],
    [Uint8Array.from({ length: 32 }, (_, index) => 31 - index), 0x113fdb5c],
  ])("computes the CRC-32C of %j", (bytes, crc) => {
    expect(castagnoli(bytes)).toBe(crc);
  });
});

const eventFile = async (folder: string) => {
  const names = (await readdir(folder)).filter((name) => name.startsWith("events.out.tfevents."));
  return names.map((name) => join(folder, name));
};

/** What a tag holds, by step. */
const series = (events: readonly LoggedEvent[], tag: string): Record<number, number> =>
  Object.fromEntries(
    events.filter(({ scalars }) => tag in scalars).map(({ step, scalars }) => [step, scalars[tag]!]),
  );

test(
  "a run is logged under sd-scripts' tags, with the loss of each rank, and every record's checksums are right",
  async () => {
    const [outputDir, loggingDir] = [await tempFolder(), await tempFolder()];
    const config = tinyConfig({
      trainDataDir: await pictureFolder(3, "1_emoji"),
      validationDir: await pictureFolder(2, "1_emoji", 10),
      validateEveryNSteps: 3,
      maxTrainSteps: 6,
      outputDir,
      outputName: "cat",
      loggingDir,
      networkTrainUnetOnly: false,
      learningRate: 1e-3,
      textEncoderLr: 5e-4,
      saveState: true,
    });
    await trainTiny(config);
    const [path, ...others] = await eventFile(join(loggingDir, "cat"));
    expect(others).toEqual([]);
    const events = readEventFile(path!);

    expect(events[0]).toMatchObject({ fileVersion: "brain.Event:2", step: 0 });
    expect(events[1]).toMatchObject({ sessionStatus: 1, step: 0 });
    const metrics = (await readMetrics(join(outputDir, "metrics.jsonl"))) as unknown as {
      step: number;
      loss?: number;
      lossEma: number;
      gradNorm: number;
      draws: Record<string, { rank: number; loss: number }>;
      validation?: { lossByRank: Record<string, number> };
    }[];
    const steps = metrics.filter(({ loss }) => loss !== undefined);
    const float = (pick: (step: (typeof steps)[number]) => number) =>
      Object.fromEntries(steps.map((step) => [step.step, Math.fround(pick(step))]));
    expect(steps).toHaveLength(6);
    expect(series(events, "loss/current")).toEqual(float(({ loss }) => loss!));
    expect(series(events, "loss/average")).toEqual(float(({ lossEma }) => lossEma));
    expect(series(events, "norm/avg_grad_norm")).toEqual(float(({ gradNorm }) => gradNorm));
    expect(series(events, "lr/unet")).toEqual(float(() => 1e-3));
    expect(series(events, "lr/textencoder")).toEqual(float(() => 5e-4));
    for (const rank of [2, 4]) {
      const drawn = steps.filter(({ draws }) => draws[0]!.rank === rank);
      expect(series(events, `loss/rank_${rank}`)).toEqual(
        Object.fromEntries(drawn.map(({ step, loss }) => [step, Math.fround(loss!)])),
      );
    }
    const validations = metrics.filter(({ validation }) => validation !== undefined);
    expect(validations.map(({ step }) => step)).toEqual([3, 6]);
    for (const rank of ["2", "4"]) {
      expect(series(events, `loss/validation/rank_${rank}`)).toEqual(
        Object.fromEntries(
          validations.map(({ step, validation }) => [step, Math.fround(validation!.lossByRank[rank]!)]),
        ),
      );
    }
    expect(Object.keys(series(events, "loss/validation/step_average"))).toEqual(["3", "6"]);
    // Three images, one a step: two epochs, which this tag counts.
    const epochMean = (first: number) =>
      Math.fround(steps.slice(first, first + 3).reduce((sum, { loss }) => sum + loss! / 3, 0));
    const epochs = series(events, "loss/epoch_average");
    expect(epochs[1]).toBeCloseTo(epochMean(0), 6);
    expect(epochs[2]).toBeCloseTo(epochMean(3), 6);
    expect(Object.keys(epochs)).toEqual(["1", "2"]);

    // A flipped bit anywhere is found.
    const bytes = await readFile(path!);
    for (const place of [3, 9, 40, bytes.length - 20, bytes.length - 1]) {
      const broken = Uint8Array.from(bytes);
      broken[place]! ^= 4;
      expect(() => readEvents(broken), `byte ${place}`).toThrow(/checksum|cut off/);
    }

    // A run that goes on takes back what lies behind its state.
    const resumed = await watch((hooks) => resume(join(outputDir, "cat-state"), { maxTrainSteps: 7 }, hooks));
    expect(eventsOf(resumed.events, "step").map(({ step }) => step)).toEqual([7]);
    const files = await eventFile(join(loggingDir, "cat"));
    const all = files.map(readEventFile);
    const second = all.find((found) => found[1]!.step === 6)!;
    expect(second[1]).toMatchObject({ sessionStatus: 1, step: 6 });
    expect(Object.keys(series(second, "loss/current"))).toEqual(["7"]);
  },
  SLOW_MS,
);
