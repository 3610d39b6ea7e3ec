/**
 * A strict reader of JSON text, value by value.
 *
 * `JSON.parse` cannot see what a safetensors header must be checked for: a key that occurs twice, `1.0` where `1` is
 * meant, integers beyond 2^53, half of a surrogate pair.
 */

/** As deep as the reference implementation follows nested values (serde_json's recursion limit). */
const MAX_DEPTH = 128;

const BACKSLASH = 0x5c;
const SPACE = 0x20;
const COMMA = 0x2c;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const WORD = /true|false|null/y;
/** A backslash or a control character (of which JSON forbids those below space). */
const NEEDS_DECODING = /[\\\p{Cc}]/u;
const LONE_SURROGATE = /\p{Surrogate}/u;

/** Where and why the text is not what was expected. */
export class JsonScanError extends Error {
  override readonly name = "JsonScanError";
  constructor(
    readonly position: number,
    readonly problem: string,
  ) {
    super(`character ${position}: ${problem}`);
  }
}

/** Entries of an object that a pattern reads in one step. */
export interface UsualEntry {
  /** Sticky; `accept` must not use it. */
  readonly pattern: RegExp;
  readonly accept: (match: RegExpExecArray) => void;
}

export class JsonScanner {
  readonly #text: string;
  #position = 0;

  constructor(text: string) {
    this.#text = text;
  }

  fail(problem: string, position = this.#position): never {
    throw new JsonScanError(position, problem);
  }

  /** The next character that is no white space, not consumed; empty at the end. */
  peek(): string {
    for (;;) {
      const char = this.#text.charAt(this.#position);
      if (char !== " " && char !== "\n" && char !== "\t" && char !== "\r") return char;
      this.#position++;
    }
  }

  /** Consumes `char` if it comes next. */
  accept(char: string): boolean {
    if (this.peek() !== char) return false;
    this.#position++;
    return true;
  }

  expect(char: string): void {
    if (!this.accept(char)) this.fail(`expected ${quote(char)}, found ${this.#found()}`);
  }

  /** Fails unless only white space is left. */
  expectEnd(): void {
    if (this.peek() !== "") this.fail(`expected the end, found ${this.#found()}`);
  }

  /**
   * Calls `readEntry` with each key, which must consume the value. `{` comes next.
   *
   * @param usual - entries that are taken whole, wherever they stand
   */
  readObject(readEntry: (key: string, keyPosition: number) => void, usual?: UsualEntry): void {
    this.expect("{");
    if (this.accept("}")) return;
    do {
      if (usual !== undefined && this.#acceptRun(usual)) continue;
      this.peek();
      const keyPosition = this.#position;
      const key = this.readString();
      this.expect(":");
      readEntry(key, keyPosition);
    } while (this.accept(","));
    this.expect("}");
  }

  /** Calls `readItem` for each item, which must consume it. `[` comes next. */
  readArray(readItem: () => void): void {
    this.expect("[");
    if (this.accept("]")) return;
    do {
      readItem();
    } while (this.accept(","));
    this.expect("]");
  }

  readString(): string {
    if (this.peek() !== '"') this.fail(`expected a string, found ${this.#found()}`);
    const start = this.#position;
    let end = this.#text.indexOf('"', start + 1);
    while (this.#isEscaped(end)) end = this.#text.indexOf('"', end + 1);
    if (end < 0) this.fail("the string has no end", start);
    this.#position = end + 1;
    const value = this.#text.slice(start + 1, end);
    return NEEDS_DECODING.test(value) ? this.#decodeString(start, end + 1) : value;
  }

  /** The text of a number, as it is written. */
  readNumber(): string {
    return this.acceptPattern(NUMBER)?.[0] ?? this.fail(`expected a number, found ${this.#found()}`);
  }

  /** Consumes what a sticky pattern matches, at the next character that is no white space. */
  acceptPattern(pattern: RegExp): RegExpExecArray | null {
    this.peek();
    pattern.lastIndex = this.#position;
    const match = pattern.exec(this.#text);
    if (match !== null) this.#position += match[0].length;
    return match;
  }

  /** Consumes `null` if it comes next. */
  acceptNull(): boolean {
    this.peek();
    if (!this.#text.startsWith("null", this.#position)) return false;
    this.#position += 4;
    return true;
  }

  /** Consumes any value. */
  skipValue(depth = 0): void {
    if (depth > MAX_DEPTH) this.fail(`values are nested more than ${MAX_DEPTH} deep`);
    const next = this.peek();
    if (next === "{") this.readObject(() => this.skipValue(depth + 1));
    else if (next === "[") this.readArray(() => this.skipValue(depth + 1));
    else if (next === '"') this.readString();
    else if (this.acceptPattern(WORD) === null) this.readNumber();
  }

  /**
   * Consumes entries that follow each other with a comma, and perhaps a space, between them. Most of a header is one run, and
   * reading it is much of what a short command does: hence a loop without calls.
   *
   * @returns whether an entry was the last that was consumed; otherwise a key comes next
   */
  #acceptRun({ pattern, accept }: UsualEntry): boolean {
    this.peek();
    const text = this.#text;
    let position = this.#position;
    let endsWithEntry = false;
    for (;;) {
      pattern.lastIndex = position;
      const match = pattern.exec(text);
      if (match === null) break;
      position = pattern.lastIndex;
      accept(match);
      endsWithEntry = text.charCodeAt(position) !== COMMA;
      if (endsWithEntry) break;
      position++;
      if (text.charCodeAt(position) === SPACE) position++;
    }
    this.#position = position;
    return endsWithEntry;
  }

  /** Whether an odd number of backslashes stands before `position`. */
  #isEscaped(position: number): boolean {
    let first = position;
    while (this.#text.charCodeAt(first - 1) === BACKSLASH) first--;
    return (position - first) % 2 === 1;
  }

  #decodeString(start: number, end: number): string {
    let value: string;
    try {
      value = JSON.parse(this.#text.slice(start, end)) as string;
    } catch {
      this.fail("a string with an invalid escape sequence or a control character", start);
    }
    if (LONE_SURROGATE.test(value)) this.fail("a string with half of a surrogate pair", start);
    return value;
  }

  #found(): string {
    const char = this.peek();
    return char === "" ? "the end" : quote(String.fromCodePoint(this.#text.codePointAt(this.#position)!));
  }
}

function quote(text: string): string {
  return text === '"' ? "a quotation mark" : JSON.stringify(text);
}
