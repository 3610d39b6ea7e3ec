import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { DatasetItem } from "./dataset.js";
import { Sampler, type SamplerOptions } from "./sampler.js";

function items(...repeats: number[]): DatasetItem[] {
  return repeats.map((count, index) => ({
    key: `${count}_s/${index}.png`,
    imagePath: `/data/${count}_s/${index}.png`,
    caption: `tag a, tag b, image ${index}`,
    repeats: count,
    subset: `${count}_s`,
  }));
}

function sampler(options: Partial<SamplerOptions> = {}): Sampler {
  return new Sampler({ items: items(1, 3, 2, 1), batchSize: 2, seed: 1, ...options });
}

describe("Sampler", () => {
  test("an epoch shows every image as often as it is repeated", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 8 }),
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 0, max: 20 }),
        fc.integer(),
        (repeats, batchSize, epoch, seed) => {
          const source = sampler({ items: items(...repeats), batchSize, seed });
          const shown = new Map<string, number>();
          for (let place = 0; place < source.epochLength; place++) {
            const sample = source.sampleAt(epoch * source.epochLength + place);
            expect(sample.epoch).toBe(epoch);
            shown.set(sample.item.key, (shown.get(sample.item.key) ?? 0) + 1);
          }
          expect(shown).toEqual(new Map(items(...repeats).map((item) => [item.key, item.repeats])));
        },
      ),
    );
  });

  test("batches are cut from the concatenated epochs and are always full", () => {
    const source = sampler({ batchSize: 4 }); // 7 samples an epoch
    const batches = Array.from({ length: 7 }, (_, index) => source.batchAt(index));
    expect(batches.flat().map(({ position }) => position)).toEqual(
      Array.from({ length: 28 }, (_, index) => index),
    );
    expect(batches.map((batch) => batch.map(({ epoch }) => epoch))).toEqual([
      [0, 0, 0, 0],
      [0, 0, 0, 1],
      [1, 1, 1, 1],
      [1, 1, 2, 2],
      [2, 2, 2, 2],
      [2, 3, 3, 3],
      [3, 3, 3, 3],
    ]);
  });

  test("a batch larger than an epoch", () => {
    const source = sampler({ items: items(1, 1), batchSize: 5 });
    expect(source.batchAt(0).map(({ epoch }) => epoch)).toEqual([0, 0, 1, 1, 2]);
    expect(source.epochsCompleted(1)).toBe(2);
  });

  test("is a function of seed and batch number: asking out of order, or anew, changes nothing", () => {
    const options = { caption: { shuffle: true, dropoutRate: 0.3 }, flipAug: true };
    const forward = sampler(options);
    const batches = Array.from({ length: 60 }, (_, index) => forward.batchAt(index));
    const backward = sampler(options);
    for (let index = 59; index >= 0; index--) expect(backward.batchAt(index)).toEqual(batches[index]);
    expect(sampler(options).batchAt(41)).toEqual(batches[41]);
    expect(sampler({ ...options, seed: 2 }).batchAt(41)).not.toEqual(batches[41]);
  });

  test("every epoch has an order of its own", () => {
    const source = sampler({ items: items(...new Array(30).fill(1)) });
    const orders = Array.from({ length: 20 }, (_, epoch) =>
      Array.from({ length: 30 }, (_, place) => source.sampleAt(epoch * 30 + place).item.key).join(),
    );
    expect(new Set(orders).size).toBe(20);
  });

  test("flips half of the samples, and only when asked to", () => {
    const flips = (flipAug: boolean) => {
      const source = sampler({ flipAug });
      return Array.from({ length: 2000 }, (_, position) => source.sampleAt(position).flip).filter(Boolean)
        .length;
    };
    // Binomial(2000, 1/2): standard deviation 22; five of them.
    expect(Math.abs(flips(true) - 1000)).toBeLessThan(112);
    expect(flips(false)).toBe(0);
  });

  test("an option changes only what it is about", () => {
    const plain = sampler();
    const augmented = sampler({ flipAug: true, caption: { shuffle: true } });
    for (let position = 0; position < 50; position++) {
      expect(augmented.sampleAt(position).item).toEqual(plain.sampleAt(position).item);
    }
    const flips = (source: Sampler) =>
      Array.from({ length: 50 }, (_, position) => source.sampleAt(position).flip);
    expect(flips(sampler({ flipAug: true, caption: { dropoutRate: 0.5 } }))).toEqual(flips(augmented));
  });

  test("counts epochs and batches", () => {
    const source = sampler({ batchSize: 4 }); // 7 samples an epoch
    expect([0, 1, 2, 3, 4, 7].map((batches) => source.epochsCompleted(batches))).toEqual([0, 0, 1, 1, 2, 4]);
    expect([0, 1, 2, 4].map((epochs) => source.batchesForEpochs(epochs))).toEqual([0, 2, 4, 7]);
    for (let epochs = 1; epochs < 30; epochs++) {
      const batches = source.batchesForEpochs(epochs);
      expect(source.epochsCompleted(batches)).toBeGreaterThanOrEqual(epochs);
      expect(source.epochsCompleted(batches - 1)).toBeLessThan(epochs);
    }
  });

  test("refuses no images and no batch", () => {
    expect(() => sampler({ items: [] })).toThrow(expect.objectContaining({ code: "E_DATA" }));
    expect(() => sampler({ batchSize: 0 })).toThrow(expect.objectContaining({ code: "E_CONFIG" }));
  });
});
