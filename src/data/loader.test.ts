import { randomFillSync } from "node:crypto";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import sharp from "sharp";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { loadImage } from "./image.js";
import { createLoader, defaultWorkers, type LoadedBatch, type LoaderOptions } from "./loader.js";

const unhandled: unknown[] = [];
const onUnhandled = (reason: unknown) => unhandled.push(reason);

beforeEach(() => process.on("unhandledRejection", onUnhandled));
afterEach(async () => {
  await sleep(5); // rejections are reported after the microtasks
  process.off("unhandledRejection", onUnhandled);
  expect(unhandled.splice(0)).toEqual([]);
});

/** Batches of three numbers: batch 2 is [6, 7, 8]. */
function numbers(overrides: Partial<LoaderOptions<number, string>> = {}): LoaderOptions<number, string> {
  return {
    batchAt: (index) => [3 * index, 3 * index + 1, 3 * index + 2],
    load: async (sample) => {
      await sleep((sample * 7) % 4); // later samples often finish first
      return `loaded ${sample}`;
    },
    endBatch: 10,
    workers: 4,
    ...overrides,
  };
}

async function collect<S, T>(options: LoaderOptions<S, T>): Promise<LoadedBatch<S, T>[]> {
  const batches: LoadedBatch<S, T>[] = [];
  for await (const batch of createLoader(options)) batches.push(batch);
  return batches;
}

describe("order", () => {
  test("does not depend on the number of workers", async () => {
    const expected = await collect(numbers({ workers: 0 }));
    expect(expected.map(({ index }) => index)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(expected[2]).toEqual({ index: 2, samples: [6, 7, 8], data: ["loaded 6", "loaded 7", "loaded 8"] });
    for (const workers of [1, 2, 3, 8, 50]) expect(await collect(numbers({ workers }))).toEqual(expected);
    for (const prefetchBatches of [1, 3])
      expect(await collect(numbers({ prefetchBatches }))).toEqual(expected);
  });

  test("starts where it is told", async () => {
    expect((await collect(numbers({ firstBatch: 7 }))).map(({ index }) => index)).toEqual([7, 8, 9]);
    expect(await collect(numbers({ firstBatch: 10 }))).toEqual([]);
  });
});

describe("look-ahead", () => {
  test("loads at most `workers` samples at once and `prefetchBatches` batches ahead", async () => {
    let active = 0;
    let peak = 0;
    let furthest = 0;
    const loader = createLoader(
      numbers({
        workers: 5,
        prefetchBatches: 3,
        load: async (sample) => {
          peak = Math.max(peak, ++active);
          furthest = Math.max(furthest, sample);
          await sleep(2);
          active--;
          return "";
        },
      }),
    );
    await sleep(50);
    expect(peak).toBe(5);
    expect(furthest).toBe(8); // batches 0, 1 and 2 without a single `next`
    await loader.next();
    await sleep(50);
    expect(furthest).toBe(11);
    await loader.return?.();
  });

  test("without workers nothing is loaded before it is asked for, and one sample at a time", async () => {
    let active = 0;
    const started: number[] = [];
    const load = async (sample: number) => {
      started.push(sample);
      expect(++active).toBe(1);
      await sleep(1);
      active--;
      return "";
    };
    const loader = createLoader(numbers({ workers: 0, load }));
    await sleep(10);
    expect(started).toEqual([]);
    await loader.next();
    await sleep(10);
    expect(started).toEqual([0, 1, 2]);
  });

  test("the default leaves a core free", () => {
    expect(defaultWorkers()).toBe(Math.min(8, availableParallelism() - 1));
  });
});

describe("errors", () => {
  const failing = (bad: number) =>
    numbers({
      load: async (sample) => {
        if (sample === bad) throw new Error(`cannot load ${sample}`);
        return `loaded ${sample}`;
      },
    });

  test.each([0, 1, 4, 50])("surface at the batch that needed the sample (%d workers)", async (workers) => {
    const delivered: number[] = [];
    const run = async () => {
      for await (const { index } of createLoader({ ...failing(7), workers })) delivered.push(index);
    };
    await expect(run()).rejects.toThrow("cannot load 7");
    expect(delivered).toEqual([0, 1]);
  });

  test("end the loader", async () => {
    const loader = createLoader(failing(0));
    await expect(loader.next()).rejects.toThrow("cannot load 0");
    expect(await loader.next()).toEqual({ done: true, value: undefined });
  });

  test("of batches that nobody asks for are no unhandled rejections", async () => {
    const loader = createLoader(failing(4));
    await loader.next();
    await sleep(10);
    await loader.return?.();
  });
});

describe("stopping", () => {
  test("an abort ends the wait with its reason, and starts nothing more", async () => {
    const controller = new AbortController();
    const started: number[] = [];
    const loader = createLoader(
      numbers({
        workers: 2,
        signal: controller.signal,
        load: async (sample) => {
          started.push(sample);
          await sleep(5);
          return "";
        },
      }),
    );
    const waiting = loader.next();
    await sleep(1);
    controller.abort(new Error("stop now"));
    await expect(waiting).rejects.toThrow("stop now");
    expect(started).toEqual([0, 1]);
    await sleep(20);
    expect(started).toEqual([0, 1]);
  });

  test("a signal that is aborted already lets nothing start", async () => {
    const load = async () => expect.fail("loaded");
    const loader = createLoader(numbers({ load, signal: AbortSignal.abort(new Error("stopped before")) }));
    await expect(loader.next()).rejects.toThrow("stopped before");
  });

  test("leaving the loop waits for the loads under way", async () => {
    let active = 0;
    const load = async () => {
      active++;
      await sleep(10);
      active--;
      return "";
    };
    for await (const { index } of createLoader(numbers({ load }))) if (index === 1) break;
    expect(active).toBe(0);
  });

  test("leaves no listener on a long-lived signal", async () => {
    const { signal } = new AbortController();
    let listeners = 0;
    const { addEventListener, removeEventListener } = signal;
    signal.addEventListener = (...args: Parameters<typeof addEventListener>) => {
      listeners++;
      addEventListener.apply(signal, args);
    };
    signal.removeEventListener = (...args: Parameters<typeof removeEventListener>) => {
      listeners--;
      removeEventListener.apply(signal, args);
    };
    await collect(numbers({ signal }));
    expect(listeners).toBe(0);
  });
});

test("several images really decode at the same time, and the batches are the same as one by one", async () => {
  const dir = await tempFolder();
  const names = Array.from({ length: 8 }, (_, index) => join(dir, `${index}.jpg`));
  const pixels = new Uint8Array(900 * 700 * 3);
  for (const name of names) {
    randomFillSync(pixels);
    await sharp(pixels, { raw: { width: 900, height: 700, channels: 3 } })
      .jpeg()
      .toFile(name);
  }
  const load = async (workers: number) => {
    const batches = await collect({
      batchAt: (index) => names.slice(2 * index, 2 * index + 2),
      load: (name) => loadImage(name, { width: 64, height: 64 }),
      endBatch: 4,
      workers,
    });
    return Buffer.concat(batches.flatMap(({ data }) => data.map(({ buffer }) => new Uint8Array(buffer))));
  };
  // sharp counts the images that its native threads work on at this moment.
  let decodingAtOnce = 0;
  const watch = setInterval(() => {
    decodingAtOnce = Math.max(decodingAtOnce, sharp.counters().process);
  }, 0);
  const parallel = await load(4);
  clearInterval(watch);
  expect(decodingAtOnce).toBeGreaterThanOrEqual(2);
  expect(parallel.length).toBe(8 * 3 * 64 * 64 * 4);
  expect(parallel.equals(await load(0))).toBe(true);
});
