import fc from "fast-check";
import { parseFragment } from "parse5";
import { describe, expect, test } from "vitest";
import { html, trusted } from "./html.js";

describe("html", () => {
  test("escapes what is put in, keeps what is HTML already, and leaves out nothing else than nothing", () => {
    const inner = html`<b>${"a < b & \"c\" 'd'"}</b>`;
    expect(html`<p>${inner}${null}${undefined}${false}${0}${["x", inner]}</p>`.markup).toBe(
      "<p><b>a &lt; b &amp; &quot;c&quot; &#39;d&#39;</b>0x<b>a &lt; b &amp; &quot;c&quot; &#39;d&#39;</b></p>",
    );
    expect(html`${trusted("<svg></svg>")}`.markup).toBe("<svg></svg>");
  });

  test("whatever is put in comes out of a parser as text and as an attribute", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 40 }), (text) => {
        const errors: unknown[] = [];
        const fragment = parseFragment(html`<p title="${text}">${text}</p>`.markup, {
          onParseError: (error) => errors.push(error.code),
        });
        const [paragraph, ...more] = fragment.childNodes as unknown as [
          { attrs: { value: string }[]; childNodes: { value: string }[] },
        ];
        // HTML has one kind of line break, and no way to write most control characters.
        const expected = text
          // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is meant
          .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g, "\ufffd")
          .replace(/\r\n?/g, "\n");
        expect(more).toEqual([]);
        expect(paragraph.attrs.map(({ value }) => value)).toEqual([expected]);
        expect(paragraph.childNodes.map(({ value }) => value).join("")).toBe(expected);
      }),
    );
  });
});
