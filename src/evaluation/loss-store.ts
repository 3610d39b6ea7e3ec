/**
 * Measured losses, and the file that keeps them from one run to the next.
 *
 * The file is JSON lines: a header, then one loss a line, appended as it is measured. A line is written with a single call,
 * so a run that is killed leaves at most one torn line, the last; whoever opens the file again takes it off. Every line says
 * what it depends on by keys of content, so any run may use any file: what does not apply is not found, and nothing in it
 * can be out of date.
 */
import { closeSync, fsyncSync, ftruncateSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
import { DyloraError, internalError } from "../errors.js";
import { describeSystemError, readError, systemErrorCode } from "../io/index.js";

/** What a loss depends on; see content-keys.ts. */
export interface LossKey {
  /** The base model, and what computes it. */
  readonly model: string;
  readonly adapter: string;
  /** Image, caption, noise and timestep. */
  readonly sample: string;
}

export interface LossRecord extends LossKey {
  readonly loss: number;
  /** Of the execution that this loss came from, its whole batch. */
  readonly seconds: number;
  /** What the seconds depend on beside the keys: machine, device, threads, batch size. */
  readonly setting: string;
  /** For people who read the file: `rank 8 of cat.safetensors`, the image, the timestep. */
  readonly adapterName: string;
  readonly image: string;
  readonly timestep: number;
}

const HEADER = `${JSON.stringify({ format: "dylora losses", version: 1 })}\n`;

export class LossStore {
  #path: string | null = null;
  #descriptor: number | null = null;
  /** Bytes of the file that are whole lines; null: there is no file yet. */
  #wholeBytes: number | null = null;
  #unreadableLines = 0;
  readonly #records = new Map<string, LossRecord>();

  private constructor() {}

  static inMemory(): LossStore {
    return new LossStore();
  }

  /**
   * Reads a file of losses, if there is one. It is made when the first loss is added.
   *
   * Lines that cannot be read are left out (and what they were is measured again).
   *
   * @throws {DyloraError} `E_FORMAT` for another kind of file, which is then left alone; `E_READ`
   */
  static open(path: string): LossStore {
    const store = new LossStore();
    store.#read(path);
    return store;
  }

  /** Null: the losses are in memory only. */
  get path(): string | null {
    return this.#path;
  }

  /** Lines of the file that are no losses. */
  get unreadableLines(): number {
    return this.#unreadableLines;
  }

  /** Losses that are known. */
  get size(): number {
    return this.#records.size;
  }

  get records(): IterableIterator<LossRecord> {
    return this.#records.values();
  }

  find(key: LossKey): LossRecord | null {
    return this.#records.get(nameOf(key)) ?? null;
  }

  /**
   * Adds losses: they are with the operating system when this returns, so only a power cut can lose them.
   *
   * @param records - none of them makes sure that the file can be written
   * @throws {DyloraError} `E_WRITE`
   */
  add(records: readonly LossRecord[]): void {
    for (const record of records) this.#records.set(nameOf(record), record);
    if (this.#path !== null) this.#append(this.#path, records);
  }

  /**
   * Puts the losses that are in memory into a file: a new one, or one with other losses.
   *
   * @throws {DyloraError} `E_FORMAT` for another kind of file, `E_READ`, `E_WRITE`
   */
  keep(path: string): void {
    if (this.#path !== null) throw internalError(`the losses are kept in ${this.#path} already`);
    const measured = [...this.#records.values()];
    this.#read(path);
    this.#append(path, measured);
  }

  /** Waits until everything is on the disk, and closes the file. */
  close(): void {
    const descriptor = this.#descriptor;
    this.#descriptor = null;
    if (descriptor === null) return;
    try {
      fsyncSync(descriptor);
    } catch (cause) {
      throw failedWrite(this.#path!, cause);
    } finally {
      closeSync(descriptor);
    }
  }

  #read(path: string): void {
    let bytes: Buffer | null;
    try {
      bytes = readLosses(path);
    } catch (cause) {
      throw readError(path, cause);
    }
    this.#path = path;
    if (bytes === null) return;
    this.#wholeBytes = bytes.lastIndexOf(0x0a) + 1;
    const [_header, ...lines] = bytes.toString("utf8", 0, this.#wholeBytes).split("\n").slice(0, -1);
    for (const line of lines) {
      const record = parseRecord(line);
      if (record === null) this.#unreadableLines++;
      else this.#records.set(nameOf(record), record);
    }
  }

  #append(path: string, records: readonly LossRecord[]): void {
    try {
      if (this.#descriptor === null) {
        this.#descriptor = openSync(path, "a");
        if (this.#wholeBytes !== null) ftruncateSync(this.#descriptor, this.#wholeBytes);
        if (!this.#wholeBytes) writeAll(this.#descriptor, HEADER);
      }
      writeAll(this.#descriptor, records.map((record) => `${JSON.stringify(record)}\n`).join(""));
    } catch (cause) {
      throw failedWrite(path, cause);
    }
  }
}

/**
 * The bytes of a file of losses; null where there is none.
 *
 * @throws {DyloraError} `E_FORMAT` for a file that begins with something else
 */
function readLosses(path: string): Buffer | null {
  let descriptor: number;
  try {
    descriptor = openSync(path, "r");
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") return null;
    throw error;
  }
  try {
    // What was named by mistake may be a checkpoint of gigabytes: its beginning is enough.
    const head = Buffer.alloc(HEADER.length);
    const length = readSync(descriptor, head, 0, head.length, 0);
    if (!HEADER.startsWith(head.toString("utf8", 0, length))) {
      throw new DyloraError("E_FORMAT", `read ${path}: it is no file of measured losses`, {
        note: "It was left as it is. Name another file: bench makes it where it does not exist.",
      });
    }
    return readFileSync(path);
  } finally {
    closeSync(descriptor);
  }
}

function writeAll(descriptor: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let done = 0; done < bytes.length; ) done += writeSync(descriptor, bytes, done);
}

function failedWrite(path: string, cause: unknown): DyloraError {
  return new DyloraError("E_WRITE", `write ${path}: ${describeSystemError(cause)}`, {
    note:
      systemErrorCode(cause) === "ENOENT"
        ? "Create the folder first, or choose another one."
        : "The losses that are in the file are whole. With space to write, bench goes on from them.",
    cause,
  });
}

function nameOf({ model, adapter, sample }: LossKey): string {
  return `${model} ${adapter} ${sample}`;
}

const TEXT_FIELDS = ["model", "adapter", "sample", "setting", "adapterName", "image"] as const;
const NUMBER_FIELDS = ["loss", "seconds", "timestep"] as const;

function parseRecord(line: string): LossRecord | null {
  try {
    const record: Record<string, unknown> = JSON.parse(line);
    const isWhole =
      TEXT_FIELDS.every((field) => typeof record[field] === "string") &&
      NUMBER_FIELDS.every((field) => Number.isFinite(record[field]));
    return isWhole ? (record as unknown as LossRecord) : null;
  } catch {
    return null;
  }
}
