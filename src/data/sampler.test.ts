import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { sizeName } from "./buckets.js";
import type { DatasetItem } from "./dataset.js";
import { type Sample, Sampler, type SamplerOptions } from "./sampler.js";

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

function sampleAt(source: Sampler, position: number): Sample {
  return source.batchAt(Math.floor(position / source.batchSize))[position % source.batchSize]!;
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
          for (let place = 0; place < source.plan.samplesPerEpoch; place++) {
            const sample = sampleAt(source, epoch * source.plan.samplesPerEpoch + place);
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
    expect(source.plan.epochsCompleted(1)).toBe(2);
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
      Array.from({ length: 30 }, (_, place) => sampleAt(source, epoch * 30 + place).item.key).join(),
    );
    expect(new Set(orders).size).toBe(20);
  });

  test("flips half of the samples, and only when asked to", () => {
    const flips = (flipAug: boolean) => {
      const source = sampler({ flipAug });
      return Array.from({ length: 2000 }, (_, position) => sampleAt(source, position).flip).filter(Boolean)
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
      expect(sampleAt(augmented, position).item).toEqual(sampleAt(plain, position).item);
    }
    const flips = (source: Sampler) =>
      Array.from({ length: 50 }, (_, position) => sampleAt(source, position).flip);
    expect(flips(sampler({ flipAug: true, caption: { dropoutRate: 0.5 } }))).toEqual(flips(augmented));
  });

  test("counts epochs and batches", () => {
    const source = sampler({ batchSize: 4 }); // 7 samples an epoch
    expect([0, 1, 2, 3, 4, 7].map((batches) => source.plan.epochsCompleted(batches))).toEqual([
      0, 0, 1, 1, 2, 4,
    ]);
    expect([0, 1, 2, 4].map((epochs) => source.plan.batchesForEpochs(epochs))).toEqual([0, 2, 4, 7]);
    for (let epochs = 1; epochs < 30; epochs++) {
      const batches = source.plan.batchesForEpochs(epochs);
      expect(source.plan.epochsCompleted(batches)).toBeGreaterThanOrEqual(epochs);
      expect(source.plan.epochsCompleted(batches - 1)).toBeLessThan(epochs);
    }
  });

  test("refuses no images and no batch", () => {
    expect(() => sampler({ items: [] })).toThrow(expect.objectContaining({ code: "E_DATA" }));
    expect(() => sampler({ batchSize: 0 })).toThrow(expect.objectContaining({ code: "E_CONFIG" }));
  });
});

describe("buckets", () => {
  const SIZES = [
    { width: 64, height: 32 },
    { width: 32, height: 64 },
    { width: 32, height: 32 },
  ];

  /** One item for each entry: the index of its size. */
  function framed(sizes: readonly number[], repeats = 1): DatasetItem[] {
    return items(...sizes.map(() => repeats)).map((item, index) => {
      const size = SIZES[sizes[index]!]!;
      return { ...item, key: `${index}`, frame: { ...size, scaled: size } };
    });
  }

  const sizeOf = ({ item }: Sample) => sizeName(item.frame!);

  test("every batch is full and of one size, and an epoch shows every image as often as any other", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 1, maxLength: 12 }),
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: 1, max: 5 }),
        fc.integer(),
        (sizes, repeats, batchSize, seed) => {
          const source = sampler({ items: framed(sizes, repeats), batchSize, seed });
          // After as many epochs as a batch has samples nothing is left over in any bucket.
          const batches = Array.from({ length: source.plan.batchesForEpochs(batchSize) }, (_, index) =>
            source.batchAt(index),
          );
          const shown = new Map<string, number>();
          for (const [index, batch] of batches.entries()) {
            expect(batch).toHaveLength(batchSize);
            expect(new Set(batch.map(sizeOf)).size).toBe(1);
            for (const [offset, sample] of batch.entries()) {
              expect(sample.position).toBe(index * batchSize + offset);
              shown.set(sample.item.key, (shown.get(sample.item.key) ?? 0) + 1);
            }
          }
          expect([...shown.values()]).toEqual(sizes.map(() => repeats * batchSize));
        },
      ),
    );
  });

  test("are a function of seed and batch number", () => {
    const options = { items: framed([0, 0, 0, 1, 1, 2, 1, 0, 2]), flipAug: true };
    const forward = sampler(options);
    const batches = Array.from({ length: 60 }, (_, index) => forward.batchAt(index));
    const backward = sampler(options);
    for (let index = 59; index >= 0; index--) expect(backward.batchAt(index)).toEqual(batches[index]);
    expect(sampler(options).batchAt(41)).toEqual(batches[41]);
    // The order in which the items come in does not matter for the sizes of the batches.
    const reversed = sampler({ ...options, items: [...options.items].reverse() });
    expect(batches.map((_, index) => sizeOf(reversed.batchAt(index)[0]!))).toEqual(
      batches.map(([first]) => sizeOf(first!)),
    );
  });

  test("come in an order that is shuffled anew for each epoch, not size after size", () => {
    const source = sampler({
      items: framed([...new Array(20).fill(0), ...new Array(20).fill(1)]),
      batchSize: 1,
    });
    const orders = Array.from({ length: 10 }, (_, epoch) =>
      Array.from({ length: 40 }, (_, place) => sizeOf(source.batchAt(epoch * 40 + place)[0]!)),
    );
    expect(new Set(orders.map((order) => order.join())).size).toBe(10);
    for (const order of orders) {
      expect(order.filter((size) => size === "64x32")).toHaveLength(20);
      // Of 39 neighbours 20 differ on average, with a standard deviation of 3.1; five of them.
      const switches = order.filter((size, index) => index > 0 && size !== order[index - 1]).length;
      expect(Math.abs(switches - 20)).toBeLessThan(16);
    }
  });

  test("items without frames are sampled as ever: one bucket changes nothing about the order of batches", () => {
    const plain = sampler({ items: items(1, 1, 1, 1, 1), batchSize: 2 });
    expect(plain.plan.bucketSamples).toEqual([5]);
    const places = Array.from({ length: 10 }, (_, position) => sampleAt(plain, position).item.key);
    expect(new Set(places.slice(0, 5)).size).toBe(5);
    expect(new Set(places.slice(5)).size).toBe(5);
  });
});
