/**
 * `metrics.jsonl`: what a run measured, one JSON object a line, appended as it happens.
 *
 * A line is written with a single call, so a run that is killed leaves at most one torn line, the last; whoever opens the
 * log again drops it. A resumed run first takes back the lines after the step it resumes at: it will write them anew.
 *
 * The first line names the run. Runs may share an output folder, and none writes into another one's log.
 */
import { closeSync, fsyncSync, openSync, writeSync } from "node:fs";
import { readdir, readFile, rename, rm } from "node:fs/promises";
import { dirname, join, parse } from "node:path";
import { DyloraError } from "../errors.js";
import { readError, systemErrorCode, writeError, writeFileAtomic } from "../io/index.js";

export const METRICS_SCHEMA_VERSION = 1;

export type MetricsValue =
  | number
  | string
  | boolean
  | null
  | readonly MetricsValue[]
  | { readonly [key: string]: MetricsValue };

/** One line. Numbers that are not finite are written as null, which is all JSON has for them. */
export interface MetricsRecord {
  /** Optimizer steps done, this one included. */
  readonly step: number;
  /** Names end in their unit where they have one (`elapsedMs`, `peakMemoryBytes`). */
  readonly [key: string]: MetricsValue;
}

export class MetricsLog {
  readonly path: string;
  #descriptor: number | null;

  private constructor(path: string, descriptor: number) {
    this.path = path;
    this.#descriptor = descriptor;
  }

  /**
   * Starts the log of a new run. A log that lies there already is kept under the next free name (`metrics-1.jsonl`).
   *
   * @param run - number of the run, the same whenever it is resumed
   * @throws {DyloraError} `E_WRITE`
   */
  static async create(path: string, run: number): Promise<MetricsLog> {
    if ((await readIfPresent(path)) !== null) await moveAside(path);
    return MetricsLog.#start(path, run);
  }

  /**
   * Goes on with the log of a run that resumes after `step` optimizer steps: later lines and a torn one are taken out,
   * all or nothing. The log of another run is kept under the next free name; where this run's own log was moved away like
   * that, it is brought back. A log that is missing is started.
   *
   * @throws {DyloraError} `E_FORMAT` for a line that is no record, `E_READ`, `E_WRITE`; the file is then as it was
   */
  static async resume(path: string, step: number, run: number): Promise<MetricsLog> {
    let records = await readRecords(path);
    if (records !== null && records.length > 0 && records[0]!.record.run !== run) {
      const own = await findAside(path, run);
      await moveAside(path);
      if (own !== null) await move(own, path);
      records = await readRecords(path);
    }
    if (records === null || records.length === 0) return MetricsLog.#start(path, run);
    const kept = records.filter(({ record }) => record.step <= step).map(({ line }) => `${line}\n`);
    await writeFileAtomic(path, kept.join(""));
    return MetricsLog.#append(path);
  }

  static async #start(path: string, run: number): Promise<MetricsLog> {
    // What a kill left of a first line, if anything.
    await rm(path, { force: true }).catch((cause: unknown) => {
      throw writeError(path, cause, { note: "No metrics were written. Choose a folder you can write to." });
    });
    const log = MetricsLog.#append(path);
    log.append({ step: 0, run });
    return log;
  }

  static #append(path: string): MetricsLog {
    try {
      return new MetricsLog(path, openSync(path, "a"));
    } catch (cause) {
      throw writeError(path, cause, { note: "No metrics were written. Choose a folder you can write to." });
    }
  }

  /** Adds a line: it is with the operating system when this returns, so only a power cut can lose it. */
  append(record: MetricsRecord): void {
    const line = Buffer.from(`${JSON.stringify({ schemaVersion: METRICS_SCHEMA_VERSION, ...record })}\n`);
    this.#write((descriptor) => {
      for (let done = 0; done < line.length; ) done += writeSync(descriptor, line, done);
    });
  }

  /** Waits until every line is on the disk: before a state is saved that counts on them. */
  sync(): void {
    this.#write(fsyncSync);
  }

  close(): void {
    if (this.#descriptor !== null) closeSync(this.#descriptor);
    this.#descriptor = null;
  }

  #write(action: (descriptor: number) => void): void {
    try {
      if (this.#descriptor === null) throw new Error("the log is closed");
      action(this.#descriptor);
    } catch (cause) {
      throw writeError(this.path, cause, {
        note: "The lines before are whole. Free some space, then resume the run.",
      });
    }
  }
}

/**
 * Every record of a log, in order; a torn last line is left out. The file is not changed.
 *
 * @throws {DyloraError} `E_NOT_FOUND`, `E_READ`, `E_FORMAT`
 */
export async function readMetrics(path: string): Promise<MetricsRecord[]> {
  const content = await readFile(path, "utf8").catch((cause: unknown) => {
    throw readError(path, cause);
  });
  return wholeLines(content).map((line, index) => parseRecord(path, line, index));
}

/** What ends in a line feed: a line without one was torn. */
function wholeLines(content: string): string[] {
  return content.split("\n").slice(0, -1);
}

function parseRecord(path: string, line: string, index: number): MetricsRecord {
  const subject = `read ${path}, line ${index + 1}`;
  let record: unknown;
  try {
    record = JSON.parse(line);
  } catch (cause) {
    throw new DyloraError("E_FORMAT", `${subject}: not JSON`, { note: NOT_A_LOG, cause });
  }
  const { schemaVersion, step } = (record ?? {}) as Record<string, unknown>;
  if (schemaVersion !== METRICS_SCHEMA_VERSION) {
    throw new DyloraError(
      "E_FORMAT",
      `${subject}: schemaVersion ${METRICS_SCHEMA_VERSION} expected, found ${schemaVersion}`,
      {
        note: NOT_A_LOG,
      },
    );
  }
  if (typeof step !== "number") {
    throw new DyloraError("E_FORMAT", `${subject}: step is no number`, { note: NOT_A_LOG });
  }
  return record as MetricsRecord;
}

const NOT_A_LOG = "The file was left as it is. Move it away and the run starts a new log.";

async function readIfPresent(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    if (systemErrorCode(cause) === "ENOENT") return null;
    throw readError(path, cause);
  }
}

/** The whole lines of a log as they are and as they are meant; null where there is none. */
async function readRecords(path: string): Promise<{ line: string; record: MetricsRecord }[] | null> {
  const content = await readIfPresent(path);
  if (content === null) return null;
  return wholeLines(content).map((line, index) => ({ line, record: parseRecord(path, line, index) }));
}

async function moveAside(path: string): Promise<void> {
  const { name, ext } = parse(path);
  for (let k = 1; ; k++) {
    const candidate = join(dirname(path), `${name}-${k}${ext}`);
    if ((await readIfPresent(candidate)) === null) return move(path, candidate);
  }
}

/** The log of a run among those that were moved away. What cannot be read is none. */
async function findAside(path: string, run: number): Promise<string | null> {
  const folder = dirname(path);
  const { name, ext } = parse(path);
  const isAside = (file: string) =>
    file.startsWith(`${name}-`) &&
    file.endsWith(ext) &&
    /^\d+$/.test(file.slice(name.length + 1, -ext.length));
  for (const file of (await readdir(folder)).filter(isAside)) {
    const candidate = join(folder, file);
    const records = await readRecords(candidate).catch(() => null);
    if (records?.[0]?.record.run === run) return candidate;
  }
  return null;
}

async function move(from: string, to: string): Promise<void> {
  await rename(from, to).catch((cause: unknown) => {
    throw writeError(to, cause, { note: `${from} was left where it is.` });
  });
}
