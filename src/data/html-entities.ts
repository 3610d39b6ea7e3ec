/**
 * HTML entities in captions that were collected from web pages: `cats &amp; dogs`.
 */

/** Names of the characters 160 to 255 in order (HTML 4, "Latin 1"). */
const LATIN_1_NAMES = (
  "nbsp iexcl cent pound curren yen brvbar sect uml copy ordf laquo not shy reg macr deg plusmn sup2 sup3 acute micro para " +
  "middot cedil sup1 ordm raquo frac14 frac12 frac34 iquest Agrave Aacute Acirc Atilde Auml Aring AElig Ccedil Egrave Eacute " +
  "Ecirc Euml Igrave Iacute Icirc Iuml ETH Ntilde Ograve Oacute Ocirc Otilde Ouml times Oslash Ugrave Uacute Ucirc Uuml Yacute " +
  "THORN szlig agrave aacute acirc atilde auml aring aelig ccedil egrave eacute ecirc euml igrave iacute icirc iuml eth ntilde " +
  "ograve oacute ocirc otilde ouml divide oslash ugrave uacute ucirc uuml yacute thorn yuml"
).split(" ");

/** The markup characters, and the typographic ones that occur in text (HTML 4, "special" and a few symbols). */
const OTHER_NAMES = {
  amp: "&",
  lt: "<",
  gt: ">",
  quot: '"',
  apos: "'",
  OElig: "\u0152",
  oelig: "\u0153",
  Scaron: "\u0160",
  scaron: "\u0161",
  ensp: "\u2002",
  emsp: "\u2003",
  thinsp: "\u2009",
  zwnj: "\u200c",
  zwj: "\u200d",
  ndash: "\u2013",
  mdash: "\u2014",
  lsquo: "\u2018",
  rsquo: "\u2019",
  sbquo: "\u201a",
  ldquo: "\u201c",
  rdquo: "\u201d",
  bdquo: "\u201e",
  bull: "\u2022",
  hellip: "\u2026",
  prime: "\u2032",
  Prime: "\u2033",
  lsaquo: "\u2039",
  rsaquo: "\u203a",
  euro: "\u20ac",
  trade: "\u2122",
  larr: "\u2190",
  uarr: "\u2191",
  rarr: "\u2192",
  darr: "\u2193",
  infin: "\u221e",
  ne: "\u2260",
  le: "\u2264",
  ge: "\u2265",
  hearts: "\u2665",
  star: "\u2606",
} as const;

const NAMED: ReadonlyMap<string, string> = new Map([
  ...LATIN_1_NAMES.map((name, index): [string, string] => [name, String.fromCharCode(160 + index)]),
  ...Object.entries(OTHER_NAMES),
]);

/** `&AMP;`, `&EACUTE;`: entities of a text that was upper-cased as a whole. */
function shoutedEntity(name: string): string | undefined {
  return name === name.toUpperCase() ? NAMED.get(name.toLowerCase())?.toUpperCase() : undefined;
}

/**
 * Decodes `&#8217;`, `&#x2019;` and the named entities above; anything else stays as it is.
 *
 * The semicolon is required, as in ftfy: HTML also reads `&copy` without one, which would turn "rock&regal" into
 * "rock®al".
 */
export function decodeHtmlEntities(text: string): string {
  return text.replace(
    /&(?:#(\d{1,7})|#[xX]([\da-fA-F]{1,6})|([a-zA-Z]\w{1,7}));/gu,
    (entity, decimal, hex, name) => {
      if (name !== undefined) return NAMED.get(name) ?? shoutedEntity(name) ?? entity;
      const codePoint = decimal !== undefined ? Number(decimal) : Number.parseInt(hex, 16);
      const isCharacter = codePoint <= 0x10ffff && !(codePoint >= 0xd800 && codePoint <= 0xdfff);
      return isCharacter ? String.fromCodePoint(codePoint) : entity;
    },
  );
}
