import fc from "fast-check";
import { expect, it } from "vitest";
import { RowCopier } from "./row-copier.js";

const AREA_BYTES = 70_000;
const copier = new RowCopier(AREA_BYTES);
for (const [i, area] of copier.areas.entries()) {
  for (let k = 0; k < area.length; k++) area[k] = k * 7 + (k >> 8) + i;
}
const CONTENT = copier.areas.map((area) => area.slice());

it("copies the beginning of every row, at any alignment and width", () => {
  const cases = fc.record({
    area: fc.integer({ min: 0, max: 1 }),
    rows: fc.integer({ min: 0, max: 40 }),
    targetRow: fc.oneof(
      fc.integer({ min: 1, max: 40 }),
      fc.integer({ min: 1000, max: 1100 }),
      // Around and beyond what is gathered at once.
      fc.integer({ min: 8000, max: 17_000 }),
    ),
    rest: fc.integer({ min: 0, max: 40 }),
    sourceOffset: fc.integer({ min: 0, max: 20 }),
    targetOffset: fc.integer({ min: 0, max: 20 }),
  });
  fc.assert(
    fc.property(cases, ({ area, rows, targetRow, rest, sourceOffset, targetOffset }) => {
      const sourceRow = targetRow + rest;
      const rowCount = Math.min(rows, Math.floor((AREA_BYTES - sourceOffset) / sourceRow));
      const source = copier.areas[area]!.subarray(sourceOffset, sourceOffset + rowCount * sourceRow);
      const whole = Buffer.alloc(targetOffset + rowCount * targetRow + 40, 0xee);
      copier.copy(
        source,
        sourceRow,
        whole.subarray(targetOffset, targetOffset + rowCount * targetRow),
        targetRow,
      );

      const expected = Buffer.alloc(whole.length, 0xee);
      for (let row = 0; row < rowCount; row++) {
        for (let i = 0; i < targetRow; i++) {
          expected[targetOffset + row * targetRow + i] = source[row * sourceRow + i]!;
        }
      }
      expect(whole.equals(expected)).toBe(true);
    }),
    { numRuns: 300 },
  );
});

it("does not touch what it copies from, even up to the last byte", () => {
  for (const [i, area] of copier.areas.entries()) {
    const target = new Uint8Array(AREA_BYTES - (AREA_BYTES % 7) - 7);
    copier.copy(area, 14, target.subarray(0, 7 * 5000), 7);
    copier.copy(area.subarray(AREA_BYTES - 15), 15, target.subarray(0, 13), 13);
    expect(Buffer.compare(area, CONTENT[i]!)).toBe(0);
  }
});
