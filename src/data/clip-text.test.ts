import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { cleanClipText } from "./clip-text.js";
import { decodeHtmlEntities } from "./html-entities.js";

test.each([
  ["lower case and whitespace", "  A PHOTO\tof\n\u00a0a \u3000 Cat ", "a photo of a cat"],
  ["curly quotes", "it\u2019s \u201cit\u201d", 'it\'s "it"'],
  ["ligatures", "\ufb01ne \ufb02our", "fine flour"],
  ["full width", "\uff21\uff22\uff0c\uff11", "ab,1"],
  ["composed characters", "cafe\u0301", "caf\u00e9"],
  ["control characters, byte order marks, terminal colours", "\ufeffa\u0007b\u001b[31mc\u001b[0m", "abc"],
  ["windows-1252 bytes in disguise", "wait\u0085 it\u0092s", "wait\u2026 it's"],
  ["half a surrogate pair", "a\ud83db", "a\ufffdb"],
  ["entities, encoded twice", "black &amp;amp; white", "black & white"],
  [
    "emoji stay as they are",
    "\u{1f468}\u200d\u{1f469} \u2764\ufe0f",
    "\u{1f468}\u200d\u{1f469} \u2764\ufe0f",
  ],
])("%s", (_, text, cleaned) => {
  expect(cleanClipText(text)).toBe(cleaned);
});

test("cleaning twice is cleaning once", () => {
  const anyCharacter = fc.integer({ min: 0, max: 0x10ffff }).map((code) => String.fromCodePoint(code));
  const touchedCharacter = fc.constantFrom(
    ..."\u2019\u201c\ufb01\uff21\u0301e\u00a0\u0085\u001b[0m\ud83d A\u03a3",
  );
  fc.assert(
    fc.property(fc.string({ unit: fc.oneof(anyCharacter, touchedCharacter), maxLength: 20 }), (text) => {
      // An entity may hide inside entities more than twice, and the dot of a lower-cased \u0130 is a character of its
      // own that composes with others; nothing else may change again.
      fc.pre(!/[&\u0130]/u.test(text));
      expect(cleanClipText(cleanClipText(text))).toBe(cleanClipText(text));
    }),
    { numRuns: 500 },
  );
});

describe("decodeHtmlEntities", () => {
  test.each([
    ["&lt;b&gt; &quot;x&quot; &apos;y&apos;", "<b> \"x\" 'y'"],
    ["&#39; &#x27; &#X1F98A; &#128512;", "' ' \u{1f98a} \u{1f600}"],
    ["&eacute;&Eacute;&szlig;&yuml;&nbsp;|", "\u00e9\u00c9\u00df\u00ff\u00a0|"],
    ["&AMP; &EACUTE;", "& \u00c9"],
    ["&hellip;&mdash;&euro;", "\u2026\u2014\u20ac"],
  ])("%s", (text, decoded) => {
    expect(decodeHtmlEntities(text)).toBe(decoded);
  });

  test.each(["AT&T", "rock&regal", "&copy", "&nosuchname;", "&#xD800;", "&#1114112;", "a & b; c"])(
    "leaves %s alone",
    (text) => {
      expect(decodeHtmlEntities(text)).toBe(text);
    },
  );
});
