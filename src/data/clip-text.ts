/**
 * Text cleaning before CLIP's byte-pair encoding.
 *
 * openai/CLIP and the tokenizer that sd-scripts uses clean prompts with the Python package ftfy, then collapse
 * whitespace and lower-case. This does the same for what occurs in captions: curly quotes become straight, ligatures
 * and full-width characters become plain ones, control characters vanish, HTML entities are decoded, Unicode is
 * composed (NFC). Left out is ftfy's repair of mojibake (UTF-8 once read as Latin-1: "schÃ¶n").
 */
import { decodeHtmlEntities } from "./html-entities.js";

/** ftfy's list of what is "likely unintended": C0 controls that are no whitespace, deprecated formatting, BOM. */
const CONTROL_CHARACTERS =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: removing them is the purpose
  /[\u0000-\u0008\u000b\u000e-\u001f\u007f\u206a-\u206f\ufeff\ufff9-\ufffc]/gu;

// biome-ignore lint/suspicious/noControlCharactersInRegex: terminal colours start with the escape character
const TERMINAL_ESCAPES = /\u001b\[[\d;]*[a-zA-Z]/gu;

/** Latin ligatures and digraphs. Other scripts' ligatures are part of how they are written. */
const LATIN_LIGATURES = /[\u0132\u0133\u0149\u01c4-\u01cc\u01f1-\u01f3\ufb00-\ufb06]/gu;

/** Full-width ASCII, half-width katakana and hangul, and the ideographic space. */
const WIDTH_FORMS = /[\u3000\uff01-\uffef]/gu;

/** Control characters that are windows-1252 bytes in disguise: U+0085 is a lost "…", U+0092 an apostrophe. */
const C1_CONTROLS = /[\u0080-\u009f]/gu;
/** What the bytes 0x80 to 0x9f mean in windows-1252. (Node 20's `TextDecoder` takes that encoding for Latin-1.) */
const WINDOWS_1252 =
  "\u20ac\u0081\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u008d\u017d\u008f" +
  "\u0090\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u009d\u017e\u0178";

/** The text that CLIP's byte-pair encoding sees. */
export function cleanClipText(text: string): string {
  // Twice, as openai/CLIP does: "&amp;amp;" is a common accident.
  return decodeHtmlEntities(decodeHtmlEntities(text))
    .replace(C1_CONTROLS, (control) => WINDOWS_1252.charAt(control.charCodeAt(0) - 0x80))
    .replaceAll("\ufb05", "\u017ft") // ftfy keeps the long s, which compatibility decomposition would not
    .replace(LATIN_LIGATURES, (ligature) => ligature.normalize("NFKC"))
    .replace(WIDTH_FORMS, (form) => form.normalize("NFKC"))
    .replace(/[\u02bc\u2018-\u201b]/gu, "'")
    .replace(/[\u201c-\u201f]/gu, '"')
    .replace(/\p{Surrogate}/gu, "\ufffd")
    .replace(TERMINAL_ESCAPES, "")
    .replace(CONTROL_CHARACTERS, "")
    .normalize("NFC")
    .replace(/\p{White_Space}+/gu, " ")
    .trim()
    .toLowerCase();
}
