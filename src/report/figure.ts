/** A chart with what it says, for every window, and with its numbers. */

import type { PlotOptions } from "@observablehq/plot";
import { CHART_SIZES, type ChartSize, renderChart } from "./chart/render.js";
import { type Html, type HtmlValue, html } from "./html.js";
import { type DataTable, dataTable } from "./table.js";

export interface Figure {
  /** Unique on the page. */
  readonly id: string;
  /** What the chart shows, in a few words. */
  readonly title: string;
  /** How to read it, and what it says. */
  readonly lede: HtmlValue;
  /** What can be seen, for those who cannot see it. */
  readonly description: string;
  draw(size: ChartSize): PlotOptions;
  /** Names of the series, in the order of their colours, where the chart itself does not name them. */
  readonly series?: readonly (string | null)[];
  readonly note?: HtmlValue;
  readonly table: Omit<DataTable, "id">;
}

export function figure({ id, title, lede, description, draw, series = [], note, table }: Figure): Html {
  const charts = CHART_SIZES.map(
    (size) =>
      html`<div class="${size.name}">${renderChart(draw(size), { id: `${id}-${size.name}`, title, description })}</div>
`,
  );
  return html`<figure id="${id}" class="chart">
<figcaption><h3>${title}</h3>
<p>${lede}</p></figcaption>
${series.length > 1 ? legend(series) : null}${charts}${note ? html`<p class="note">${note}</p>\n` : null}<details><summary>Numbers of this chart</summary>
${dataTable({ ...table, id: `${id}-numbers` })}</details>
</figure>
`;
}

function legend(series: readonly (string | null)[]): Html {
  const entries = series.map(
    (name, index) =>
      name !== null &&
      html`<li class="series-${Math.min(index + 1, 7)}">${name}</li>
`,
  );
  return html`<ul class="legend">
${entries}</ul>
`;
}
