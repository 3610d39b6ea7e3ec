/** Where the command line prints: the two output streams and what they can show. */

export interface OutputStream {
  write(text: string): void;
  readonly isTerminal: boolean;
  /** Width in characters; 80 where the stream is no terminal. */
  readonly columns: number;
  readonly style: Style;
}

export interface Terminal {
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
}

export interface Style {
  bold(text: string): string;
  dim(text: string): string;
  red(text: string): string;
  green(text: string): string;
  yellow(text: string): string;
  cyan(text: string): string;
}

/** Select Graphic Rendition codes; without colour the text stays as it is. */
export function styleFor(color: boolean): Style {
  const paint = (open: number, close: number) => (text: string) =>
    color ? `\x1b[${open}m${text}\x1b[${close}m` : text;
  return {
    bold: paint(1, 22),
    dim: paint(2, 22),
    red: paint(31, 39),
    green: paint(32, 39),
    yellow: paint(33, 39),
    cyan: paint(36, 39),
  };
}

/**
 * The process's own streams. Colour follows Node's rules (`NO_COLOR`, `FORCE_COLOR`, `TERM`).
 *
 * A reader that goes away (`dylora inspect x | head`) is no error: what is written after that is dropped, so a training
 * run whose output nobody reads any more still finishes.
 */
export function processTerminal(): Terminal {
  return { stdout: processStream(process.stdout), stderr: processStream(process.stderr) };
}

function processStream(stream: NodeJS.WriteStream): OutputStream {
  let open = true;
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE" && error.code !== "EOF") throw error;
    open = false;
  });
  const isTerminal = stream.isTTY === true;
  return {
    write(text) {
      if (open) stream.write(text);
    },
    isTerminal,
    get columns() {
      return isTerminal ? stream.columns || 80 : 80;
    },
    style: styleFor(isTerminal && stream.hasColors()),
  };
}
