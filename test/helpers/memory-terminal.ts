import { type OutputStream, styleFor, type Terminal } from "../../src/cli/terminal.js";

export interface MemoryStream extends OutputStream {
  /** Everything written so far. */
  readonly text: string;
}

export interface MemoryTerminal extends Terminal {
  readonly stdout: MemoryStream;
  readonly stderr: MemoryStream;
}

/** Streams that keep what is written to them. */
export function memoryTerminal(
  options: { isTerminal?: boolean; columns?: number; color?: boolean } = {},
): MemoryTerminal {
  return { stdout: memoryStream(options), stderr: memoryStream(options) };
}

function memoryStream({ isTerminal = false, columns = 80, color = false }): MemoryStream {
  let text = "";
  return {
    isTerminal,
    columns,
    style: styleFor(color),
    write(part) {
      text += part;
    },
    get text() {
      return text;
    },
  };
}
