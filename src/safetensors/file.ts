/** A safetensors file, read by position: nothing is loaded that is not asked for. */
import { DyloraError, internalError } from "../errors.js";
import { readError } from "../io/file-error.js";
import { PositionalFile } from "../io/positional-file.js";
import { decodeToFloat32 } from "./codecs.js";
import { recogniseForeignFile, SIGNATURE_BYTES } from "./foreign-file.js";
import { LENGTH_BYTES, MAX_HEADER_BYTES, type SafetensorsHeader, type TensorInfo } from "./header.js";
import { formatError, headerTooLarge, parseHeader } from "./parse-header.js";

/** Default size of the pieces that `stream` yields: large enough that calls cost nothing, small enough for a cache. */
const STREAM_CHUNK_BYTES = 1 << 20;

/** The largest element type, with room for none other. */
const MAX_SCALAR_BYTES = 8;

export class SafetensorsFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly header: SafetensorsHeader;
  readonly #file: PositionalFile;

  private constructor(file: PositionalFile, header: SafetensorsHeader) {
    this.path = file.path;
    this.sizeBytes = file.sizeBytes;
    this.header = header;
    this.#file = file;
  }

  /**
   * Opens a file and reads its header; tensors stay on the disk. Close it, or hold it with `await using`.
   *
   * @throws {DyloraError} `E_NOT_FOUND`, `E_READ`, `E_FORMAT`
   */
  static async open(path: string): Promise<SafetensorsFile> {
    const file = await PositionalFile.open(path);
    try {
      return new SafetensorsFile(file, await readHeaderFrom(file));
    } catch (cause) {
      await file.close();
      throw readError(path, cause);
    }
  }

  /**
   * The description of one tensor.
   *
   * @throws {DyloraError} `E_INCOMPATIBLE` where the file has no tensor of that name
   */
  info(name: string): TensorInfo {
    const info = this.header.tensors.get(name);
    if (info === undefined) {
      throw new DyloraError("E_INCOMPATIBLE", `read ${this.path}: it has no tensor ${JSON.stringify(name)}`);
    }
    return info;
  }

  /** All bytes of a tensor, in memory of their own. */
  async read(name: string): Promise<Uint8Array> {
    return this.readRange(name, 0, this.info(name).sizeBytes);
  }

  /** The bytes `[beginByte, endByte)` of a tensor, in memory of their own. */
  async readRange(name: string, beginByte: number, endByte: number): Promise<Uint8Array> {
    // Not filled with zeros first, which takes as long as reading from the system's cache: it is filled, or not returned.
    const target = new Uint8Array(Buffer.allocUnsafeSlow(Math.max(0, endByte - beginByte)).buffer);
    await this.readInto(name, beginByte, target);
    return target;
  }

  /**
   * The bytes of a scalar, at once: for the hundreds of alphas of an adapter, which a promise each would take longer to
   * schedule than to read.
   */
  readScalarSync(name: string): Uint8Array {
    const { offsetBytes, sizeBytes } = this.info(name);
    if (sizeBytes > MAX_SCALAR_BYTES) throw internalError(`${name} has ${sizeBytes} bytes: no scalar`);
    const target = new Uint8Array(sizeBytes);
    this.#file.readSync(target, offsetBytes);
    return target;
  }

  /** Fills `target` with a tensor's bytes from `beginByte` on. */
  async readInto(name: string, beginByte: number, target: Uint8Array): Promise<void> {
    const { offsetBytes, sizeBytes } = this.info(name);
    if (!(beginByte >= 0 && beginByte + target.length <= sizeBytes)) {
      throw internalError(
        `bytes ${beginByte} to ${beginByte + target.length} of tensor ${name}, which has ${sizeBytes}`,
      );
    }
    await this.#file.read(target, offsetBytes + beginByte);
  }

  /** A tensor as float32, whatever its type. */
  async readFloat32(name: string): Promise<Float32Array> {
    return decodeToFloat32(await this.read(name), this.info(name).dtype);
  }

  /** A tensor's bytes in pieces. Each piece is memory of its own. */
  async *stream(name: string, chunkBytes = STREAM_CHUNK_BYTES): AsyncGenerator<Uint8Array, void, void> {
    const { sizeBytes } = this.info(name);
    for (let begin = 0; begin < sizeBytes; begin += chunkBytes) {
      yield await this.readRange(name, begin, Math.min(begin + chunkBytes, sizeBytes));
    }
  }

  /** Idempotent. */
  async close(): Promise<void> {
    await this.#file.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * Reads a file's header and closes the file.
 *
 * @throws {DyloraError} `E_NOT_FOUND`, `E_READ`, `E_FORMAT`
 */
export async function readHeader(path: string): Promise<SafetensorsHeader> {
  const file = await SafetensorsFile.open(path);
  await file.close();
  return file.header;
}

async function readHeaderFrom(file: PositionalFile): Promise<SafetensorsHeader> {
  const { path, sizeBytes: fileSizeBytes } = file;
  const firstBytes = new Uint8Array(Math.min(SIGNATURE_BYTES, fileSizeBytes));
  await file.read(firstBytes, 0);
  const foreignNote = recogniseForeignFile(firstBytes);
  if (fileSizeBytes < LENGTH_BYTES) {
    throw formatError(
      path,
      `the file has ${fileSizeBytes} bytes, too few for a safetensors file`,
      foreignNote,
    );
  }
  const length = new DataView(firstBytes.buffer).getBigUint64(0, true);
  const available = fileSizeBytes - LENGTH_BYTES;
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw foreignNote === undefined
      ? headerTooLarge(path, length)
      : formatError(path, "it is no safetensors file", foreignNote);
  }
  if (length > BigInt(available)) {
    throw formatError(
      path,
      `the header is said to have ${length} bytes, but only ${available} follow: it is truncated, or no safetensors file`,
      foreignNote,
    );
  }
  const bytes = new Uint8Array(Number(length));
  await file.read(bytes, LENGTH_BYTES);
  return parseHeader(bytes, { subject: path, fileSizeBytes });
}
