import { beforeAll, describe, expect, test } from "vitest";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { SLOW_MS, shapedFolder, TINY_BUCKETS, tinyConfig } from "../../test/helpers/tiny-run.js";
import type { TrainConfig } from "./config.js";
import { estimateRun, hostBytes } from "./estimate.js";
import { parameterCount } from "./network.js";
import { type PreparedRun, prepareRun } from "./prepare.js";

let pictures: string;

beforeAll(async () => {
  pictures = await shapedFolder([
    [50, 50],
    [90, 30],
    [30, 90],
  ]);
});

async function prepare(changes: Partial<TrainConfig>): Promise<PreparedRun> {
  const config = tinyConfig({ trainDataDir: pictures, outputDir: await tempFolder(), ...changes });
  return prepareRun(config, 7, { onEvent: () => {}, signal: new AbortController().signal });
}

describe("estimateRun", () => {
  test(
    "counts factors, gradients, the optimizer's moments, and the copy that a run goes back to",
    async () => {
      const numbersOf = async (optimizerType: "AdamW" | "Lion") => {
        const run = await prepare({ optimizerType });
        const bigger = await prepare({ optimizerType, networkDim: 8 });
        const more = parameterCount(bigger.network) - parameterCount(run.network);
        return (hostBytes(bigger) - hostBytes(run)) / more / 4;
      };
      // AdamW: factors and two moments, all of that again, and gradients twice. Lion has one moment.
      expect(await numbersOf("AdamW")).toBeCloseTo(8, 6);
      expect(await numbersOf("Lion")).toBeCloseTo(6, 6);
    },
    SLOW_MS,
  );

  test(
    "counts a session for every size, as far as memory lets them stay",
    async () => {
      const one = estimateRun(await prepare({ resolution: TINY_BUCKETS.resolution }));
      expect(one.sharedBytes).toBe(0);
      const run = await prepare({ ...TINY_BUCKETS, cacheLatents: true });
      const all = estimateRun(run);
      const sessionsOf = (parts: readonly { name: string }[]) =>
        parts.filter(({ name }) => name === "training step: activations").length;
      expect(sessionsOf(all.parts)).toBe(3);
      expect(all.sessions).toEqual({ needed: 3, kept: 3 });
      expect(all.totalBytes).toBeGreaterThan(one.totalBytes);
      expect(all.sharedBytes).toBeGreaterThan(0);
      const tight = estimateRun(run, 0);
      expect(sessionsOf(tight.parts)).toBe(1);
      expect(tight.sessions).toEqual({ needed: 3, kept: 1 });
      expect(tight.totalBytes).toBeLessThan(all.totalBytes);
    },
    SLOW_MS,
  );
});
