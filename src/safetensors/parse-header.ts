/** Header bytes to `SafetensorsHeader`, with every check of the Rust reference, and duplicate keys. */
import { DyloraError } from "../errors.js";
import { type Dtype, isDtype, tensorSize } from "./dtype.js";
import {
  LENGTH_BYTES,
  MAX_HEADER_BYTES,
  METADATA_KEY,
  type SafetensorsHeader,
  type TensorInfo,
} from "./header.js";
import { JsonScanError, JsonScanner } from "./json-scanner.js";

export interface ParseHeaderOptions {
  /** What the errors call the file: its path. */
  readonly subject: string;
  readonly fileSizeBytes: number;
}

/** A tensor as the header states it; offsets count from the start of the data. */
interface TensorEntry {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

/**
 * A tensor and its name as nearly every writer spells them: the reference without spaces, Python's `json.dumps` with them. Read
 * in one step, the header of a usual adapter (800 tensors) takes a sixth of the time; anything else goes field by field. At most
 * 8 dimensions: a repetition without an end overflows the engine's stack where a hostile header goes on for millions.
 */
const USUAL_TENSOR =
  /"(?!__metadata__")([\w./-]*)": ?\{"dtype": ?"(\w+)", ?"shape": ?\[((?:0|[1-9]\d{0,14})(?:, ?(?:0|[1-9]\d{0,14})){0,7})?\], ?"data_offsets": ?\[(0|[1-9]\d{0,14}), ?(0|[1-9]\d{0,14})\]\}/y;

/**
 * Reads and checks a header.
 *
 * Accepts what the reference (safetensors 0.8) accepts: white space around the JSON text, unknown fields of a tensor,
 * empty tensors, tensors in any order. Stricter in three points: a key may occur only once, a tensor is an object (not a
 * list), and sizes are below 2^53.
 *
 * @param bytes - the JSON text, without the 8 bytes of its length
 * @throws {DyloraError} `E_FORMAT`, naming the tensor and the numbers that do not fit
 */
export function parseHeader(bytes: Uint8Array, options: ParseHeaderOptions): SafetensorsHeader {
  const { subject, fileSizeBytes } = options;
  if (bytes.length > MAX_HEADER_BYTES) throw headerTooLarge(subject, bytes.length);
  const { entries, metadata } = scanHeader(decodeUtf8(bytes, subject), subject);
  const dataStartBytes = LENGTH_BYTES + bytes.length;
  // Older writers ordered by name only, and any order is valid.
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  checkLayout(entries, fileSizeBytes - dataStartBytes, subject);
  const tensors = new Map<string, TensorInfo>();
  for (const { name, dtype, shape, begin, end } of entries) {
    tensors.set(name, { name, dtype, shape, offsetBytes: dataStartBytes + begin, sizeBytes: end - begin });
  }
  return { tensors, metadata, dataStartBytes };
}

export function headerTooLarge(subject: string, sizeBytes: number | bigint): DyloraError {
  return formatError(
    subject,
    `the header is said to have ${sizeBytes} bytes, more than the ${MAX_HEADER_BYTES} that safetensors allows`,
  );
}

export function formatError(subject: string, problem: string, note?: string, cause?: unknown): DyloraError {
  return new DyloraError("E_FORMAT", `read ${subject}: ${problem}`, {
    note:
      note ?? "The file is damaged, or no safetensors file. It was not changed: copy or download it again.",
    cause,
  });
}

function decodeUtf8(bytes: Uint8Array, subject: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw formatError(subject, "the header is not valid UTF-8 text", undefined, cause);
  }
}

function scanHeader(
  text: string,
  subject: string,
): { entries: TensorEntry[]; metadata: Record<string, string> | null } {
  const scanner = new JsonScanner(text);
  const entries: TensorEntry[] = [];
  const keys = new Set<string>();
  const addKey = (key: string, position: number) => {
    if (keys.has(key)) scanner.fail(`the key ${JSON.stringify(key)} occurs twice`, position);
    keys.add(key);
  };
  let metadata: Record<string, string> | null = null;
  try {
    scanner.readObject(
      (key, position) => {
        addKey(key, position);
        if (key === METADATA_KEY) metadata = scanMetadata(scanner);
        else entries.push(scanTensor(scanner, key));
      },
      {
        pattern: USUAL_TENSOR,
        accept: (match) => {
          addKey(match[1]!, match.index);
          entries.push(usualTensor(scanner, match));
        },
      },
    );
    scanner.expectEnd();
  } catch (error) {
    if (!(error instanceof JsonScanError)) throw error;
    throw formatError(subject, `the header is not valid at character ${error.position}: ${error.problem}`);
  }
  return { entries, metadata };
}

function scanMetadata(scanner: JsonScanner): Record<string, string> | null {
  if (scanner.acceptNull()) return null;
  const values = new Map<string, string>();
  scanner.readObject((key, position) => {
    if (values.has(key)) scanner.fail(`the metadata key ${JSON.stringify(key)} occurs twice`, position);
    if (scanner.peek() !== '"')
      scanner.fail(`the value of metadata key ${JSON.stringify(key)} is not a string`);
    values.set(key, scanner.readString());
  });
  // fromEntries makes own properties of all keys, __proto__ included.
  return Object.fromEntries(values);
}

/** What `USUAL_TENSOR` matched. By index: destructuring takes an iterator, and for each tensor twice as long as the match. */
function usualTensor(scanner: JsonScanner, match: RegExpExecArray): TensorEntry {
  const name = match[1]!;
  const dtype = match[2]!;
  const shape = match[3];
  if (!isDtype(dtype)) {
    const problem = `tensor ${JSON.stringify(name)} has the unknown dtype ${JSON.stringify(dtype)}`;
    scanner.fail(problem, USUAL_TENSOR.lastIndex);
  }
  return {
    name,
    dtype,
    shape: shape === undefined ? [] : shape.split(",").map(Number),
    begin: Number(match[4]),
    end: Number(match[5]),
  };
}

function scanTensor(scanner: JsonScanner, name: string): TensorEntry {
  const subject = `tensor ${JSON.stringify(name)}`;
  let dtype: Dtype | undefined;
  let shape: number[] | undefined;
  let offsets: number[] | undefined;
  const fields = new Set<string>();
  if (scanner.peek() !== "{") scanner.fail(`${subject} is not described by an object`);
  scanner.readObject((field, position) => {
    if (fields.has(field)) scanner.fail(`${subject} has ${JSON.stringify(field)} twice`, position);
    fields.add(field);
    if (field === "dtype") dtype = scanDtype(scanner, subject);
    else if (field === "shape") shape = scanIntegers(scanner, `the shape of ${subject}`);
    else if (field === "data_offsets") offsets = scanIntegers(scanner, `data_offsets of ${subject}`);
    else scanner.skipValue();
  });
  if (dtype === undefined) scanner.fail(`${subject} has no dtype`);
  if (shape === undefined) scanner.fail(`${subject} has no shape`);
  if (offsets === undefined) scanner.fail(`${subject} has no data_offsets`);
  const [begin, end] = offsets as number[];
  if (begin === undefined || end === undefined || (offsets as number[]).length !== 2) {
    scanner.fail(`data_offsets of ${subject} are ${(offsets as number[]).length} numbers instead of 2`);
  }
  return { name, dtype, shape, begin, end };
}

function scanDtype(scanner: JsonScanner, subject: string): Dtype {
  if (scanner.peek() !== '"') scanner.fail(`the dtype of ${subject} is not a string`);
  const name = scanner.readString();
  return isDtype(name) ? name : scanner.fail(`${subject} has the unknown dtype ${JSON.stringify(name)}`);
}

function scanIntegers(scanner: JsonScanner, subject: string): number[] {
  const values: number[] = [];
  if (scanner.peek() !== "[") scanner.fail(`${subject} is not a list`);
  scanner.readArray(() => {
    const text = scanner.readNumber();
    if (!/^\d+$/.test(text)) scanner.fail(`${subject} has ${text}, which is no whole number of 0 or more`);
    const value = Number(text);
    if (!Number.isSafeInteger(value)) scanner.fail(`${subject} has ${text}: an overflow (2^53 or more)`);
    values.push(value);
  });
  return values;
}

/** Every byte of the data belongs to exactly one tensor, and every tensor has as many as its type and shape need. */
function checkLayout(entries: readonly TensorEntry[], dataBytes: number, subject: string): void {
  let previous: TensorEntry | null = null;
  for (const entry of entries) {
    const { begin, end } = entry;
    const covered: number = previous?.end ?? 0;
    const problem =
      end < begin
        ? "it ends before it begins"
        : begin > covered
          ? `the ${begin - covered} bytes before it belong to no tensor`
          : begin < covered
            ? `it overlaps tensor ${JSON.stringify(previous!.name)} at [${previous!.begin}, ${previous!.end}]`
            : sizeProblem(entry);
    if (problem !== null) {
      throw formatError(
        subject,
        `tensor ${JSON.stringify(entry.name)} has data_offsets [${begin}, ${end}]: ${problem}`,
      );
    }
    previous = entry;
  }
  const covered = previous?.end ?? 0;
  if (covered > dataBytes) {
    const first = entries.find((entry) => entry.end > dataBytes)!;
    throw formatError(
      subject,
      `tensor ${JSON.stringify(first.name)} ends at byte ${first.end} of the data, but the file has only ` +
        `${dataBytes} of ${covered} bytes: it is truncated`,
    );
  }
  if (covered < dataBytes) {
    throw formatError(
      subject,
      `the tensors end at byte ${covered} of the data, but the file goes on for ${dataBytes - covered} bytes`,
    );
  }
}

function sizeProblem({ dtype, shape, begin, end }: TensorEntry): string | null {
  const size = tensorSize(dtype, shape);
  if (size.ok && size.sizeBytes === end - begin) return null;
  const description = `${dtype} [${shape.join(", ")}]`;
  if (size.ok) return `they span ${end - begin} bytes, but ${description} takes ${size.sizeBytes}`;
  return size.reason === "overflow"
    ? `the size of ${description} is an overflow (2^53 bits or more)`
    : `${description} does not fill whole bytes`;
}
