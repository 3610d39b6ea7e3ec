/**
 * A text from a file as it can be shown: control characters, which a terminal might obey, become visible escapes. Line
 * breaks too, so that a name stays in its line.
 */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what this is about.
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, (character) => {
    const known = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }[character];
    return known ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

/** The same for a text of our own that quotes one from a file: its line breaks are ours. */
export function printableLines(text: string): string {
  return text.split("\n").map(printable).join("\n");
}
