/** What every report must keep, read with a parser of its own: structure, names for everything, nothing from outside. */

import { createHash } from "node:crypto";
import { parse } from "parse5";
import { expect } from "vitest";

interface Node {
  readonly nodeName: string;
  readonly value?: string;
  readonly attrs?: readonly { readonly name: string; readonly value: string }[];
  readonly childNodes?: readonly Node[];
  readonly content?: Node;
}

export class PageElement {
  readonly #node: Node;

  constructor(node: Node) {
    this.#node = node;
  }

  get name(): string {
    return this.#node.nodeName;
  }

  get attributes(): Readonly<Record<string, string>> {
    return Object.fromEntries((this.#node.attrs ?? []).map(({ name, value }) => [name, value]));
  }

  get children(): PageElement[] {
    return (this.#node.childNodes ?? [])
      .filter(({ attrs }) => attrs !== undefined)
      .map((node) => new PageElement(node));
  }

  /** Every element inside, in the order of the page. */
  get descendants(): PageElement[] {
    return this.children.flatMap((child) => [child, ...child.descendants]);
  }

  get text(): string {
    return (this.#node.childNodes ?? [])
      .map((node) => (node.nodeName === "#text" ? node.value! : new PageElement(node).text))
      .join("");
  }

  all(...names: readonly string[]): PageElement[] {
    return this.descendants.filter(({ name }) => names.includes(name));
  }
}

/** Fails for whatever a report may not have. @returns the page, for what this one must show */
export function checkPage(markup: string): PageElement {
  const errors: string[] = [];
  const page = new PageElement(
    parse(markup, {
      onParseError: ({ code, startLine }) => errors.push(`${code} in line ${startLine}`),
    }) as Node,
  );
  expect(errors).toEqual([]);
  expect(page.all("html")[0]!.attributes.lang).toBe("en");
  expect(page.all("title")[0]!.text.trim()).not.toBe("");
  checkNothingFromOutside(markup, page);
  checkPolicy(page);
  checkReferences(page);
  checkHeadings(page);
  checkPictures(page);
  checkTables(page);
  return page;
}

function checkNothingFromOutside(markup: string, page: PageElement): void {
  // Not even as a name space: a page that holds no address asks no address.
  expect(markup.match(/https?:\/\/[^\s"'<]*/g)).toBeNull();
  expect(markup).not.toMatch(/@import|url\(/);
  for (const { name, attributes } of page.descendants) {
    for (const [attribute, value] of Object.entries(attributes)) {
      expect(attribute, name).not.toMatch(/^on|^style$|^srcdoc$/);
      if (["src", "href", "srcset", "data", "action", "poster"].includes(attribute)) {
        expect(value.slice(0, 40), name).toMatch(/^(data:image\/(webp|png);base64,|#)/);
      }
    }
  }
  expect(page.all("link", "iframe", "object", "embed", "form", "base")).toEqual([]);
}

function checkPolicy(page: PageElement): void {
  const policy = page
    .all("meta")
    .find(({ attributes }) => attributes["http-equiv"] === "Content-Security-Policy")!.attributes.content!;
  expect(policy).toMatch(
    /^default-src 'none'; img-src data:; style-src 'sha256-[^']+'; script-src 'sha256-[^']+';/,
  );
  const [style, ...styles] = page.all("style");
  const [script, ...scripts] = page.all("script");
  expect([...styles, ...scripts]).toEqual([]);
  for (const [directive, element] of [
    ["style-src", style!],
    ["script-src", script!],
  ] as const) {
    const hash = createHash("sha256").update(element.text).digest("base64");
    expect(policy).toContain(`${directive} 'sha256-${hash}';`);
  }
}

function checkReferences(page: PageElement): void {
  const ids = page.descendants.flatMap(({ attributes }) => attributes.id ?? []);
  expect(ids.filter((id, index) => ids.indexOf(id) !== index)).toEqual([]);
  for (const { name, attributes } of page.descendants) {
    for (const id of (attributes["aria-labelledby"] ?? "").split(" ").filter(Boolean)) {
      expect(ids, `label of a ${name}`).toContain(id);
    }
  }
}

function checkHeadings(page: PageElement): void {
  const levels = page.all("h1", "h2", "h3", "h4", "h5", "h6").map(({ name }) => Number(name[1]));
  expect(levels[0]).toBe(1);
  expect(levels.filter((level) => level === 1)).toHaveLength(1);
  for (const [index, level] of levels.entries()) {
    if (index > 0) expect(level - levels[index - 1]!, `heading ${index}`).toBeLessThanOrEqual(1);
  }
}

function checkPictures(page: PageElement): void {
  for (const { attributes } of page.all("img")) {
    expect(attributes.alt?.trim()).toBeTruthy();
    expect(Number(attributes.width) * Number(attributes.height)).toBeGreaterThan(0);
  }
  for (const svg of page.all("svg")) {
    expect(svg.attributes.role).toBe("img");
    const [title, description] = [svg.all("title")[0]!, svg.all("desc")[0]!];
    expect(title.text.trim()).not.toBe("");
    expect(description.text.trim()).not.toBe("");
    expect(svg.attributes["aria-labelledby"]).toBe(`${title.attributes.id} ${description.attributes.id}`);
    // What cannot be computed must not be drawn.
    for (const { name, attributes } of svg.descendants) {
      for (const [attribute, value] of Object.entries(attributes)) {
        expect(value, `${attribute} of a ${name} in ${title.text}`).not.toMatch(/NaN|Infinity|undefined/);
      }
    }
    expect(svg.text).not.toMatch(/NaN|Infinity|undefined|\[object/);
  }
  // Every chart has its numbers.
  for (const figure of page.all("figure")) expect(figure.all("table")).toHaveLength(1);
}

function checkTables(page: PageElement): void {
  for (const table of page.all("table")) {
    const [caption] = table.all("caption");
    expect(caption!.text.trim()).not.toBe("");
    for (const heading of table.all("th")) {
      expect(heading.text.trim(), caption!.text).not.toBe("");
      expect(heading.attributes.scope).toMatch(/^(col|row|rowgroup)$/);
    }
    const columns = table.all("thead")[0]!.all("th").length;
    for (const row of table.all("tbody").flatMap((body) => body.all("tr"))) {
      const cells = row.children.reduce((sum, { attributes }) => sum + Number(attributes.colspan ?? 1), 0);
      expect(cells, caption!.text).toBe(columns);
    }
    expect(table.text).not.toMatch(/NaN|Infinity|undefined|\[object/);
  }
}
