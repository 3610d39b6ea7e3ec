/** Pictures side by side: one row for each prompt, one column for each rank or step. */

import { type Html, type HtmlValue, html } from "../html.js";

export interface PictureColumn {
  /** Short, above the pictures: `rank 8`. */
  readonly title: string;
  readonly highlighted?: boolean;
}

export interface EmbeddedPicture {
  /** `data:image/…` */
  readonly url: string;
  readonly width: number;
  readonly height: number;
}

export interface PictureRow {
  readonly prompt: string;
  /** Negative prompt, seed, … */
  readonly details: string;
  /** One for each column; null where there is none. */
  readonly pictures: readonly (EmbeddedPicture | null)[];
}

export interface PictureGrid {
  /** Unique on the page. */
  readonly id: string;
  readonly caption: string;
  /** What the columns differ in: `Rank`. */
  readonly axis: string;
  /** Of the button that walks along a row: `Walk through the ranks`. */
  readonly walk: string;
  readonly columns: readonly PictureColumn[];
  readonly rows: readonly PictureRow[];
}

/** Readable as it is; the page's script adds enlarging, and a slider along the columns. */
export function pictureGrid({ id, caption, axis, walk, columns, rows }: PictureGrid): Html {
  const head = columns.map(
    ({ title, highlighted }, index) =>
      html`<th scope="col" id="${id}-column-${index}"${highlighted ? html` class="chosen"` : null}>${title}</th>`,
  );
  const body = rows.map(
    (row, index) => html`<tbody>
<tr><th scope="rowgroup" colspan="${columns.length}" id="${id}-row-${index}">${promptText(row)} <small>${row.details}</small></th></tr>
<tr data-row="${promptText(row)}, ${row.details}">${row.pictures.map((picture, column) => cell(picture, row, columns[column]!))}</tr>
</tbody>
`,
  );
  return html`<div class="scroll" role="group" aria-labelledby="${id}-caption" tabindex="0"><table class="pictures" id="${id}" data-axis="${axis}" data-walk="${walk}">
<caption id="${id}-caption"><span>${caption}</span></caption>
<thead><tr>${head}</tr></thead>
${body}</table></div>
`;
}

function cell(picture: EmbeddedPicture | null, row: PictureRow, { title }: PictureColumn): HtmlValue {
  if (picture === null) return html`<td>–</td>`;
  const { url, width, height } = picture;
  return html`<td><img src="${url}" width="${width}" height="${height}" alt="${title}: ${promptText(row)}"></td>`;
}

function promptText({ prompt }: PictureRow): string {
  return prompt === "" ? "(empty prompt)" : prompt;
}
