import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { writeTinyAdapter } from "../../test/helpers/tiny-adapter.js";
import { SLOW_MS, TINY_MODEL } from "../../test/helpers/tiny-run.js";
import { openAdapter } from "../adapter/index.js";
import { loadClipTokenizer } from "../data/index.js";
import { Denoiser } from "../denoiser/denoiser.js";
import { type Checkpoint, openCheckpoint } from "../models/checkpoint/index.js";
import { extract, planExtract } from "../surgery/index.js";
import { generateImages } from "./generate.js";
import { adapterTargets, combineAdapters, type LoadedAdapter, loadAdapter } from "./loaded-adapter.js";
import { PromptEncoder } from "./prompt-encoder.js";
import { SAMPLER_NAMES } from "./sampler-names.js";
import type { GeneratedImage, GenerateHooks, GenerateRequest, ImageRequest } from "./types.js";

const CAT = { prompt: "a cat", seed: 7, width: 16, height: 16, steps: 2, scale: 3 } as const;

let folder: string;
let checkpoint: Checkpoint;
let adapter: LoadedAdapter;

beforeAll(async () => {
  folder = await tempFolder();
  checkpoint = await openCheckpoint(TINY_MODEL);
  adapter = await loadAdapter(await writeTinyAdapter(join(folder, "cat.safetensors")), checkpoint);
});

async function draw(
  images: readonly ImageRequest[],
  changes: Partial<GenerateRequest> = {},
  hooks: Partial<GenerateHooks> = {},
): Promise<GeneratedImage[]> {
  const request = {
    checkpoint,
    images,
    device: "cpu",
    executionMode: "lean",
    threads: 1,
    ...changes,
  } as const;
  const drawn: GeneratedImage[] = [];
  const { signal } = new AbortController();
  for await (const image of generateImages(request, { signal, ...hooks })) drawn.push(image);
  return drawn;
}

const pixels = async (...args: Parameters<typeof draw>) =>
  (await draw(...args)).map((image) => Buffer.from(image.pixels).toString("hex"));

describe("a picture", () => {
  test(
    "depends on its own request alone, whatever else is drawn with it",
    async () => {
      const ancestral = { ...CAT, sampler: "euler_a", steps: 3 } as const;
      const adapted = { ...CAT, adapters: [{ adapter, rank: 4 }] };
      const larger = { ...CAT, width: 32 };
      const together = await draw([CAT, adapted, ancestral, larger]);
      expect(together.map(({ index, width, height }) => [index, width, height])).toEqual([
        [0, 16, 16],
        [1, 16, 16],
        [2, 16, 16],
        [3, 32, 16],
      ]);
      expect(together[3]!.pixels).toHaveLength(32 * 16 * 3);
      const apart = [...(await draw([ancestral, CAT])), ...(await draw([adapted]))];
      expect(apart.map((image) => image.pixels)).toEqual([2, 0, 1].map((index) => together[index]!.pixels));
    },
    SLOW_MS,
  );

  test(
    "changes with everything that it is drawn from",
    async () => {
      const others: ImageRequest[] = [
        { ...CAT, seed: 8 },
        { ...CAT, prompt: "a dog" },
        { ...CAT, negativePrompt: "a dog" },
        { ...CAT, scale: 4 },
        { ...CAT, scale: 1 },
        { ...CAT, steps: 3 },
        { ...CAT, steps: 3, spacing: "karras" },
        ...SAMPLER_NAMES.filter((name) => name !== "ddim").map((sampler) => ({ ...CAT, steps: 3, sampler })),
        { ...CAT, adapters: [{ adapter, rank: 4 }] },
        { ...CAT, adapters: [{ adapter, rank: 2 }] },
        { ...CAT, adapters: [{ adapter, rank: 4, multiplier: 0.5 }] },
      ];
      const drawn = await pixels([CAT, ...others]);
      expect(new Set(drawn).size).toBe(drawn.length);
      const ways: Partial<GenerateRequest>[] = [
        { clipSkip: 2 },
        { predictionType: "v_prediction" },
        { zeroTerminalSnr: true },
      ];
      for (const changes of ways) expect(drawn).not.toContain((await pixels([CAT], changes))[0]);
    },
    SLOW_MS,
  );

  test(
    "without guidance does not know its negative prompt",
    async () => {
      const plain = { ...CAT, scale: 1 };
      const [first, second] = await pixels([plain, { ...plain, negativePrompt: "a dog" }]);
      expect(first).toBe(second);
    },
    SLOW_MS,
  );
});

describe("adapters", () => {
  test(
    "at rank b, a DyLoRA draws what the file that is extracted at b draws, pixel for pixel",
    async () => {
      await using parent = await openAdapter(adapter.path!);
      const { outputs } = await extract(planExtract(parent, { all: true }, { outDir: folder }));
      expect(outputs.map(({ rank }) => rank)).toEqual([2, 4]);
      const copies = await Promise.all(outputs.map(({ path }) => loadAdapter(path, checkpoint)));
      const ofParent = await pixels(outputs.map(({ rank }) => ({ ...CAT, adapters: [{ adapter, rank }] })));
      const ofCopies = await pixels(
        copies.map((copy) => ({ ...CAT, adapters: [{ adapter: copy, rank: copy.maxRank }] })),
      );
      expect(ofCopies).toEqual(ofParent);
      expect(ofParent[0]).not.toBe(ofParent[1]);
    },
    SLOW_MS,
  );

  test(
    "at rank 0 or without strength are not there",
    async () => {
      const [base, ...same] = await pixels([
        CAT,
        { ...CAT, adapters: [{ adapter, rank: 0 }] },
        { ...CAT, adapters: [{ adapter, rank: 4, multiplier: 0 }] },
      ]);
      expect(same).toEqual([base, base]);
    },
    SLOW_MS,
  );

  test("of several files add up", async () => {
    const other = await loadAdapter(
      await writeTinyAdapter(join(folder, "other.safetensors"), { rank: 2, alpha: 1, seed: 2 }),
      checkpoint,
    );
    const targets = adapterTargets(checkpoint);
    const applied = [
      { adapter, rank: 2, multiplier: 0.5 },
      { adapter: other, rank: 2 },
    ];
    const both = combineAdapters(targets, applied);
    const alone = applied.map((one) => combineAdapters(targets, [one]));
    expect(both).toHaveLength(targets.length);
    expect(both.filter(({ rank }) => rank > 0).map(({ rank }) => rank)).toEqual(adapter.targets.map(() => 4));
    for (const [index, module] of both.entries()) {
      const expected = alone.map((modules) => product(modules[index]!));
      const found = product(module);
      for (const [i, value] of found.entries()) {
        expect(value).toBeCloseTo(expected[0]![i]! + expected[1]![i]!, 6);
      }
    }
  });

  test("inside the text encoder act as they do in the denoiser's own graph", async () => {
    const isText = ({ component }: { component: string }) => component === "text_encoder";
    const targets = adapter.targets.filter(isText);
    expect(targets).toHaveLength(1);
    const options = { checkpoint, device: "cpu", threads: 1, clipSkip: 1 } as const;
    const encoder = await PromptEncoder.open({ ...options, targets, onWarning: () => {} });
    const applied = [{ adapter, rank: 2 }];
    const states = await encoder.encode("a cat", applied);
    expect(await encoder.encode("a cat", [])).not.toEqual(states);
    await encoder.release();

    const denoiser = new Denoiser({ ...options, targets, mode: "lean" });
    const tokenizer = await loadClipTokenizer({ tokenizerDir: null, version: "sd1" });
    const { context } = await denoiser.predict(
      {
        count: 1,
        height: 8,
        width: 8,
        sample: new Float32Array(4 * 8 * 8),
        timesteps: [500],
        text: { tokens: [tokenizer.encode("a cat").ids] },
      },
      combineAdapters(targets, applied),
    );
    await denoiser.release();
    expect(context).toEqual(states);
  });
});

/** `scale · up · down` of the active components, `[in, out]`, of the first rows of both. */
function product({ factors, rank, scale }: ReturnType<typeof combineAdapters>[number]): number[] {
  const [wide, high] = [factors.down.length / factors.maxRank, factors.up.length / factors.maxRank];
  const values: number[] = [];
  for (let row = 0; row < Math.min(wide, 3); row++) {
    for (let column = 0; column < Math.min(high, 3); column++) {
      let sum = 0;
      for (let c = 0; c < rank; c++) sum += factors.down[c * wide + row]! * factors.up[c * high + column]!;
      values.push(scale * sum);
    }
  }
  return values;
}

describe("what cannot be drawn is said before anything is", () => {
  test.each([
    [{ ...CAT, width: 24 }, "E_USAGE", /multiples of 16/],
    [{ ...CAT, steps: 0 }, "E_USAGE", /steps must be from 1 to 1000/],
  ])("%j", async (image, code, message) => {
    await expect(draw([CAT, image])).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  test("a rank that was not trained", async () => {
    const image = { ...CAT, adapters: [{ adapter, rank: 3 }] };
    await expect(draw([image])).rejects.toMatchObject({ code: "E_RANK" });
  });
});

test("nothing asked for is nothing drawn", async () => {
  expect(await draw([])).toEqual([]);
});

test("progress, warnings and an end before the last step", { timeout: SLOW_MS }, async () => {
  const controller = new AbortController();
  const seen: string[] = [];
  const warnings: string[] = [];
  const long = { ...CAT, prompt: "cat ".repeat(80), scale: 1 };
  const drawing = draw(
    [long, long],
    {},
    {
      signal: controller.signal,
      onWarning: (message) => warnings.push(message),
      onProgress({ image, images, step, steps }) {
        seen.push(`${image}/${images} ${step}/${steps}`);
        if (image === 1 && step === 1) controller.abort();
      },
    },
  );
  await expect(drawing).rejects.toMatchObject({ name: "AbortError" });
  expect(seen).toEqual(["0/2 0/2", "0/2 1/2", "0/2 2/2", "1/2 0/2", "1/2 1/2"]);
  expect(warnings).toEqual([expect.stringMatching(/^Prompts are cut after 75 tokens; this one has 5 more/)]);
});
