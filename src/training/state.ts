/**
 * The state folder of a run: everything that a run that is stopped needs to go on as if it had not been.
 *
 *     NAME-state/
 *       train_state.json                           step, configuration, identities, and which data file belongs to it
 *       train_state-step00000400.safetensors       factors, optimizer moments, step counts (exact, float32)
 *
 * The data file is written under a new name and reaches the disk before `train_state.json` is replaced, and the data file
 * before it goes last. Whenever the process dies, the folder holds either the old state or the new one, whole.
 */
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm, rmdir, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { DyloraError } from "../errors.js";
import { readError, systemErrorCode, writeError, writeFileAtomic } from "../io/index.js";
import { SafetensorsFile, type TensorSource, writeSafetensors } from "../safetensors/index.js";
import type { StateTensor, StateTensors } from "./state-tensors.js";

export const TRAIN_STATE_SCHEMA_VERSION = 1;

const JSON_NAME = "train_state.json";
const KIND = "dylora-train-state";
/** Data files, and the temporary files that a killed process left of them. */
const OWN_FILES =
  /^(train_state-step\d+(-\d+)?\.safetensors|\.train_state(-step\d+(-\d+)?\.safetensors|\.json)\..*\.tmp)$/;

export type JsonValue =
  | null
  | boolean
  | number
  | string
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue };

/** The part of a state that is not tensors. */
export interface TrainStateFacts {
  /** Optimizer steps done. */
  readonly step: number;
  /** The options of the run. */
  readonly config: JsonValue;
  /** What the run depends on besides its options, by name: hashes of the base model and of the data, … */
  readonly identities: Readonly<Record<string, string>>;
  /** What else goes on: smoothed losses, counters. */
  readonly progress: JsonValue;
}

export interface TrainState extends TrainStateFacts {
  readonly tensors: StateTensors;
}

export interface WriteStateOptions {
  /** Called after each tensor. */
  onProgress?: (progress: { readonly doneBytes: number; readonly totalBytes: number }) => void;
  signal?: AbortSignal;
}

/**
 * Writes a state into a folder, which is made if it is not there; a state that lies there already is replaced.
 *
 * @returns size of the files of the new state
 * @throws {DyloraError} `E_WRITE`, `E_INTERRUPTED`; the folder then holds what it held before
 */
export async function writeTrainState(
  folder: string,
  facts: TrainStateFacts,
  tensors: readonly StateTensor[],
  options: WriteStateOptions = {},
): Promise<{ sizeBytes: number }> {
  await mkdir(folder, { recursive: true }).catch((cause: unknown) => {
    throw writeError(folder, cause, { note: "No state was written. Choose a folder you can write to." });
  });
  const before = await filesOf(folder);
  const dataFile = freeName(facts.step, before);
  const dataPath = join(folder, dataFile);
  try {
    const { sizeBytes, dataSha256 } = await writeSafetensors(dataPath, tensors.map(toSource), options);
    const json = toJson(facts, { file: dataFile, sizeBytes, sha256: dataSha256 });
    await writeFileAtomic(join(folder, JSON_NAME), json);
    await removeLeftovers(folder, before);
    return { sizeBytes: sizeBytes + Buffer.byteLength(json) };
  } catch (error) {
    await rm(dataPath, { force: true }).catch(() => undefined);
    // Only succeeds where the folder is empty, so where it was made for this state.
    await rmdir(folder).catch(() => undefined);
    throw error;
  }
}

/**
 * Reads a state and checks it against the hash that it was saved with.
 *
 * @throws {DyloraError} `E_NOT_FOUND` where there is no state, `E_FORMAT` for a damaged one, `E_INCOMPATIBLE` for one of
 *   another program or a newer version, `E_READ`
 */
export async function readTrainState(folder: string): Promise<TrainState> {
  const { facts, data } = await readFacts(folder);
  const path = join(folder, data.file);
  await using file = await SafetensorsFile.open(path).catch((cause: unknown) => {
    throw damaged(
      folder,
      cause instanceof DyloraError ? cause.message : `${data.file} cannot be read`,
      cause,
    );
  });
  if (file.sizeBytes !== data.sizeBytes) {
    throw damaged(folder, `${data.file} has ${file.sizeBytes} bytes, ${data.sizeBytes} were saved`);
  }
  const hash = createHash("sha256");
  const tensors = new Map<string, Float32Array | Uint32Array>();
  // In the order of the file, so that one pass both reads and checks.
  for (const { name, dtype } of file.header.tensors.values()) {
    const bytes = await file.read(name);
    hash.update(bytes);
    if (dtype !== "F32" && dtype !== "U32") throw damaged(folder, `${name} is ${dtype}, expected F32 or U32`);
    const View = dtype === "F32" ? Float32Array : Uint32Array;
    tensors.set(
      name,
      new View(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength / View.BYTES_PER_ELEMENT),
    );
  }
  if (hash.digest("hex") !== data.sha256) {
    throw damaged(folder, `the contents of ${data.file} are not what was saved (SHA-256 differs)`);
  }
  return { ...facts, tensors };
}

/**
 * Compares what a run depends on with what the state was saved with.
 *
 * @throws {DyloraError} `E_INCOMPATIBLE` that names every difference with both values
 */
export function compareIdentities(
  saved: Readonly<Record<string, string>>,
  current: Readonly<Record<string, string>>,
): void {
  const names = [...new Set([...Object.keys(saved), ...Object.keys(current)])];
  const differing = names.filter((name) => saved[name] !== current[name]);
  if (differing.length === 0) return;
  const list = differing.map(
    (name) => `${name} is ${saved[name] ?? "not there"} in the state and ${current[name] ?? "not there"} now`,
  );
  throw new DyloraError("E_INCOMPATIBLE", `resume: ${list.join("; ")}`, {
    note: "The state was left as it is. Bring back what the run was started with, or start a new run with --network_weights.",
  });
}

/** A name that no file has: the data file of the current state must stay until the new one is complete. */
function freeName(step: number, taken: readonly string[]): string {
  const stem = `train_state-step${String(step).padStart(8, "0")}`;
  for (let k = 0; ; k++) {
    const name = k === 0 ? `${stem}.safetensors` : `${stem}-${k}.safetensors`;
    if (!taken.includes(name)) return name;
  }
}

function toJson(facts: TrainStateFacts, data: DataFile): string {
  const { step, config, identities, progress } = facts;
  const document = {
    schemaVersion: TRAIN_STATE_SCHEMA_VERSION,
    kind: KIND,
    step,
    config,
    identities,
    progress,
    data,
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

/** Removes what earlier states left, once the new one is complete. What cannot be removed does no harm. */
async function removeLeftovers(folder: string, names: readonly string[]): Promise<void> {
  for (const name of names) {
    if (OWN_FILES.test(name)) await rm(join(folder, name), { force: true }).catch(() => undefined);
  }
}

async function filesOf(folder: string): Promise<string[]> {
  return readdir(folder).catch((cause: unknown) => {
    throw readError(folder, cause);
  });
}

/** The bytes as they lie in memory: little-endian, on every platform that Node.js runs on with onnxruntime. */
function toSource({ name, shape, data }: StateTensor): TensorSource {
  return {
    name,
    dtype: data instanceof Float32Array ? "F32" : "U32",
    shape,
    data: () => new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
  };
}

interface DataFile {
  file: string;
  sizeBytes: number;
  sha256: string;
}

async function readFacts(folder: string): Promise<{ facts: TrainStateFacts; data: DataFile }> {
  const path = join(folder, JSON_NAME);
  const text = await readFile(path, "utf8").catch(async (cause: unknown) => {
    throw await explainMissing(folder, cause);
  });
  let document: Record<string, unknown>;
  try {
    document = Object(JSON.parse(text));
  } catch (cause) {
    throw damaged(folder, `${JSON_NAME} is not JSON`, cause);
  }
  if (document.kind !== KIND) {
    const isAccelerate = "current_step" in document;
    throw new DyloraError("E_INCOMPATIBLE", `resume: ${folder} is not a state of dylora`, {
      note: isAccelerate
        ? "It is one of sd-scripts, whose optimizer state dylora cannot read: start a new run from its LoRA file with --network_weights."
        : `Its ${JSON_NAME} was written by another program.`,
    });
  }
  if (document.schemaVersion !== TRAIN_STATE_SCHEMA_VERSION) {
    throw new DyloraError(
      "E_INCOMPATIBLE",
      `resume: ${folder} has state format ${document.schemaVersion}, this dylora reads ${TRAIN_STATE_SCHEMA_VERSION}`,
      { note: "Resume it with the version of dylora that wrote it." },
    );
  }
  const { step, config, identities, progress, data } = document as Record<string, JsonValue>;
  if (!(isStep(step) && isRecord(identities) && isDataFile(data)) || config === undefined) {
    throw damaged(folder, `${JSON_NAME} lacks a part`);
  }
  const facts = {
    step,
    config,
    identities: identities as Record<string, string>,
    progress: progress ?? null,
  };
  return { facts, data };
}

function isStep(value: JsonValue | undefined): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isRecord(value: JsonValue | undefined): boolean {
  return (
    typeof value === "object" &&
    value !== null &&
    Object.values(value).every((item) => typeof item === "string")
  );
}

function isDataFile(value: unknown): value is DataFile {
  const { file, sizeBytes, sha256 } = Object(value) as Record<string, unknown>;
  const isPlainName = typeof file === "string" && file === basename(file) && OWN_FILES.test(file);
  return isPlainName && typeof sizeBytes === "number" && typeof sha256 === "string";
}

/** There is no train_state.json: why? */
async function explainMissing(folder: string, cause: unknown): Promise<DyloraError> {
  const error = readError(join(folder, JSON_NAME), cause);
  if (systemErrorCode(cause) === "ENOTDIR") {
    return new DyloraError(
      "E_INCOMPATIBLE",
      `resume: ${folder} is a file, expected a state folder (NAME-state)`,
      {
        note: "To train on from a LoRA file, start a new run with --network_weights.",
        cause,
      },
    );
  }
  if (error.code !== "E_NOT_FOUND") return error;
  const isFolder = await stat(folder).then(
    (stats) => stats.isDirectory(),
    () => false,
  );
  if (!isFolder) return new DyloraError("E_NOT_FOUND", `resume: there is no folder ${folder}`, { cause });
  const isUnfinished = (await filesOf(folder)).some((name) => OWN_FILES.test(name));
  return new DyloraError("E_NOT_FOUND", `resume: ${folder} holds no state (${JSON_NAME} is missing)`, {
    note: isUnfinished
      ? "The run ended while this state was being written: resume from the one before."
      : "A state folder is named NAME-state or NAME-step00000400-state; save one with --save_state.",
    cause,
  });
}

function damaged(folder: string, what: string, cause?: unknown): DyloraError {
  return new DyloraError("E_FORMAT", `resume: the state in ${folder} is damaged: ${what}`, {
    note: "Nothing was changed. Resume from another state, or start a new run from a LoRA file with --network_weights.",
    cause,
  });
}
