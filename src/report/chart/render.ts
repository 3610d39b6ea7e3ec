/** Charts as SVG: Observable Plot draws into a small DOM, and the page gets the markup. */

import { createDocument, type Element } from "@mixmark-io/domino";
import { type PlotOptions, plot } from "@observablehq/plot";
import { type Html, trusted } from "../html.js";

const SVG = "http://www.w3.org/2000/svg";

/** A chart is drawn once for wide and once for narrow windows, so that its text has one size on all of them. */
export interface ChartSize {
  readonly name: "wide" | "narrow";
  /** In CSS pixels, at which text is as large as the page's. */
  readonly width: number;
}

export const CHART_SIZES: readonly ChartSize[] = [
  { name: "wide", width: 720 },
  { name: "narrow", width: 360 },
];

export interface ChartLabels {
  /** Unique on the page. */
  readonly id: string;
  readonly title: string;
  /** What the chart shows, for those who cannot see it. */
  readonly description: string;
}

/** Draws a chart that takes its colours and its font from the page, dark or light. */
export function renderChart(options: PlotOptions, { id, title, description }: ChartLabels): Html {
  const document = createDocument();
  const svg = plot({ ...options, document: document as never }) as unknown as Element;
  // The page has one style sheet, and its policy allows no other.
  for (const style of Array.from(svg.querySelectorAll("style"))) style.remove();
  // A picture has one name. Its parts have none that anybody could come to.
  for (const part of Array.from(svg.querySelectorAll("*"))) {
    for (const name of ["aria-label", "aria-description", "aria-hidden"]) part.removeAttribute(name);
  }
  for (const name of ["font-family", "font-size", "fill", "class"]) svg.removeAttribute(name);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-labelledby", `${id}-title ${id}-description`);
  const before = svg.firstChild;
  for (const [name, text] of [
    ["title", title],
    ["desc", description],
  ] as const) {
    const element = document.createElementNS(SVG, name);
    element.setAttribute("id", `${id}-${name === "desc" ? "description" : name}`);
    element.textContent = text;
    svg.insertBefore(element, before);
  }
  return trusted(shorten(svg.outerHTML));
}

/** A hundredth of a pixel is all that a screen can show. */
function shorten(markup: string): string {
  return markup.replace(/<[a-z][^>]*>/g, (tag) =>
    tag.replace(/\d+\.\d{3,}(?:e-?\d+)?/g, (number) => String(Number(Number(number).toFixed(2)))),
  );
}
