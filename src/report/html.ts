/** HTML out of template literals: everything that is put in is escaped, unless it is HTML already. */

/** Markup that is safe to put into a page. Made by {@link html}; by {@link trusted} only from what this program wrote. */
export class Html {
  readonly markup: string;

  constructor(markup: string) {
    this.markup = markup;
  }

  toString(): string {
    return this.markup;
  }
}

/** `null`, `undefined` and `false` give nothing. */
export type HtmlValue = Html | string | number | null | undefined | false | readonly HtmlValue[];

/** ``html`<p>${text}</p>` ``. Attribute values must stand in double quotes. */
export function html(strings: TemplateStringsArray, ...values: readonly HtmlValue[]): Html {
  return new Html(strings.reduce((markup, text, index) => markup + toMarkup(values[index - 1]) + text));
}

/** Markup that was written by this program, such as a chart. */
export function trusted(markup: string): Html {
  return new Html(markup);
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Control characters other than tab and line breaks: HTML has no way to write them. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is meant
const CONTROLS = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g;

/** Text as it may stand between tags and inside quoted attributes. */
export function escapeHtml(text: string): string {
  return text.replace(CONTROLS, "\ufffd").replace(/[&<>"']/g, (character) => ENTITIES[character]!);
}

function toMarkup(value: HtmlValue): string {
  if (value === null || value === undefined || value === false) return "";
  if (value instanceof Html) return value.markup;
  if (typeof value === "number") return String(value);
  if (typeof value === "string") return escapeHtml(value);
  return value.map(toMarkup).join("");
}
