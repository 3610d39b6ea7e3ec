import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Dataset } from "./dataset.js";
import { splitValidation } from "./split.js";

function dataset(...subsetSizes: number[]): Dataset {
  const items = subsetSizes.flatMap((size, subset) =>
    Array.from({ length: size }, (_, image) => ({
      key: `${subset}_s/${image}.png`,
      imagePath: `/data/${subset}_s/${image}.png`,
      caption: "",
      repeats: 10,
      subset: `${subset}_s`,
    })),
  );
  return { items, warnings: ["kept"] };
}

const keysOf = ({ items }: Dataset) => items.map(({ key }) => key);

describe("splitValidation", () => {
  test("every image is in exactly one part, and the total is the rounded share", () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 6 });
    const share = fc.double({ min: 1e-6, max: 0.999, noNaN: true });
    fc.assert(
      fc.property(sizes, share, fc.integer(), (subsetSizes, split, seed) => {
        const data = dataset(...subsetSizes);
        const count = data.items.length;
        fc.pre(count >= 2);
        const { train, validation } = splitValidation(data, split, seed);
        expect([...keysOf(train), ...keysOf(validation)].sort()).toEqual(keysOf(data).sort());
        expect(validation.items.length).toBe(Math.min(Math.max(Math.round(count * split), 1), count - 1));
        // Each sub-folder gives its share, to within one image.
        for (const [index, size] of subsetSizes.entries()) {
          const held = validation.items.filter(({ subset }) => subset === `${index}_s`).length;
          expect(Math.abs(held - (validation.items.length * size) / count)).toBeLessThan(1);
        }
      }),
    );
  });

  test("does not depend on the order of the items", () => {
    const data = dataset(12, 7);
    const reversed = { ...data, items: [...data.items].reverse() };
    const held = keysOf(splitValidation(data, 0.3, 5).validation).sort();
    expect(keysOf(splitValidation(reversed, 0.3, 5).validation).sort()).toEqual(held);
    expect(keysOf(splitValidation(data, 0.3, 6).validation).sort()).not.toEqual(held);
  });

  test("an image added later leaves the others where they are, but for one at most", () => {
    const before = new Set(keysOf(splitValidation(dataset(20), 0.25, 1).validation));
    const after = new Set(keysOf(splitValidation(dataset(21), 0.25, 1).validation));
    expect([...before].filter((key) => !after.has(key)).length).toBeLessThanOrEqual(1);
  });

  test("many small folders give their share together (each alone would round to 0)", () => {
    const { validation } = splitValidation(dataset(...new Array(10).fill(3)), 0.1, 0);
    expect(validation.items).toHaveLength(3);
  });

  test("0 holds out nothing; warnings stay with the training part", () => {
    const data = dataset(3);
    expect(splitValidation(data, 0, 1)).toEqual({ train: data, validation: { items: [], warnings: [] } });
    expect(splitValidation(data, 0.5, 1).train.warnings).toEqual(["kept"]);
  });

  test.each([-0.1, 1, 1.5, Number.NaN])("refuses the share %d", (split) => {
    expect(() => splitValidation(dataset(4), split, 1)).toThrow(
      expect.objectContaining({ code: "E_CONFIG" }),
    );
  });

  test("refuses to hold out the only image", () => {
    expect(() => splitValidation(dataset(1), 0.1, 1)).toThrow(expect.objectContaining({ code: "E_DATA" }));
  });
});
