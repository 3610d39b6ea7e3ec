/** Tables of numbers. */

import { type Html, type HtmlValue, html } from "./html.js";

export interface TableColumn {
  readonly title: HtmlValue;
  /** Numbers stand on the right. */
  readonly numeric?: boolean;
}

export interface DataTable {
  /** Unique on the page. */
  readonly id: string;
  readonly caption: string;
  readonly columns: readonly TableColumn[];
  /** The first cell is the row's heading. */
  readonly rows: readonly TableRow[];
}

export interface TableRow {
  readonly cells: readonly HtmlValue[];
  readonly highlighted?: boolean;
}

/** A table that scrolls sideways where the window is too narrow for it. */
export function dataTable({ id, caption, columns, rows }: DataTable): Html {
  const align = (index: number) => (columns[index]?.numeric ? html` class="number"` : null);
  const head = columns.map(({ title }, index) => html`<th scope="col"${align(index)}>${title}</th>`);
  const body = rows.map(({ cells, highlighted }) => {
    const [first, ...rest] = cells;
    const others = rest.map((cell, index) => html`<td${align(index + 1)}>${cell}</td>`);
    return html`<tr${highlighted ? html` class="chosen"` : null}><th scope="row"${align(0)}>${first}</th>${others}</tr>
`;
  });
  return html`<div class="scroll" role="group" aria-labelledby="${id}-caption" tabindex="0"><table>
<caption id="${id}-caption"><span>${caption}</span></caption>
<thead><tr>${head}</tr></thead>
<tbody>
${body}</tbody>
</table></div>
`;
}

/** Names and what they stand for: settings, facts. Pairs without a value are left out. */
export function factList(facts: readonly (readonly [string, HtmlValue])[]): Html {
  const items = facts
    .filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(
      ([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>
`,
    );
  return html`<dl class="facts">
${items}</dl>
`;
}
