import { dot } from "@observablehq/plot";
import { expect, test } from "vitest";
import { renderChart } from "./render.js";

const LABELS = { id: "chart", title: "A < B", description: 'says "so" & more' };

test("a chart has a name, a description, and no style of its own", () => {
  const { markup } = renderChart({ width: 300, height: 200, marks: [dot([[1, 2]], { r: 3 })] }, LABELS);
  expect(markup).toMatch(/^<svg [^>]*viewBox="0 0 300 200"/);
  expect(markup).toContain('role="img" aria-labelledby="chart-title chart-description"');
  expect(markup).toContain(
    '<title id="chart-title">A &lt; B</title><desc id="chart-description">says "so" &amp; more</desc>',
  );
  expect(markup).not.toMatch(/<style|style=|class=|font-family|aria-label=|aria-hidden/);
});

test("coordinates have two digits, and words keep theirs", () => {
  const points = Array.from({ length: 50 }, (_, index) => [Math.sqrt(index), Math.cbrt(index)] as const);
  const { markup } = renderChart({ marks: [dot(points)] }, { ...LABELS, title: "π is 3.14159265" });
  expect(markup).toContain("π is 3.14159265");
  expect(markup.replace(/<title.*<\/title>/, "")).not.toMatch(/\d\.\d{3}/);
  // Still 50 different places.
  expect(new Set(markup.match(/cx="[^"]+"/g)).size).toBe(50);
});
