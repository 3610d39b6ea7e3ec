import type { OutputStream } from "./terminal.js";

/** The line is redrawn at most this often. */
const REDRAW_MS = 100;

/**
 * One line on a terminal that is rewritten in place. Other lines printed through it appear above it. On anything that is
 * no terminal only those other lines appear, and no control characters at all.
 */
export class ProgressLine {
  readonly #out: OutputStream;
  readonly #now: () => number;
  #shown = false;
  #drawnAtMs = Number.NEGATIVE_INFINITY;

  constructor(out: OutputStream, now = () => performance.now()) {
    this.#out = out;
    this.#now = now;
  }

  /** Replaces the line; calls that come too fast are left out. */
  update(text: string): void {
    if (!this.#out.isTerminal || this.#now() - this.#drawnAtMs < REDRAW_MS) return;
    this.#drawnAtMs = this.#now();
    // One column stays free: a full last column would wrap on some terminals.
    this.#out.write(`\r\x1b[2K${text.slice(0, this.#out.columns - 1)}`);
    this.#shown = true;
  }

  /** Prints lines that stay. */
  print(text: string): void {
    this.clear();
    this.#out.write(text.endsWith("\n") ? text : `${text}\n`);
  }

  clear(): void {
    if (this.#shown) this.#out.write("\r\x1b[2K");
    this.#shown = false;
    this.#drawnAtMs = Number.NEGATIVE_INFINITY;
  }
}
