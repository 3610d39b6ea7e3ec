/** Writes tensors, wherever they come from, as one safetensors file. */
import { internalError } from "../errors.js";
import { throwIfAborted } from "../io/index.js";
import { layoutData } from "./build-header.js";
import type { TensorSpec } from "./header.js";
import type { StreamHash } from "./stream-hash.js";
import { SafetensorsWriter, type WriteResult, type WriterOptions } from "./writer.js";

export interface TensorSource extends TensorSpec {
  /** Called once, when it is this tensor's turn; pieces are written as they come. */
  data(): Uint8Array | Promise<Uint8Array> | AsyncIterable<Uint8Array>;
}

export interface WriteOptions extends WriterOptions {
  readonly hash?: StreamHash;
  /** Called after each tensor. */
  readonly onProgress?: (progress: { readonly doneBytes: number; readonly totalBytes: number }) => void;
  readonly signal?: AbortSignal;
}

/**
 * Writes a file in the canonical layout of the Rust reference: types of larger alignment first, then by name.
 *
 * One tensor at a time is asked for its data. The target appears, whole and on the disk, at the end; on any error it is
 * untouched and no temporary file is left.
 *
 * @throws {DyloraError} `E_EXISTS`, `E_WRITE`, `E_INTERRUPTED`, and whatever a source throws
 */
export async function writeSafetensors(
  path: string,
  sources: readonly TensorSource[],
  options: WriteOptions = {},
): Promise<WriteResult> {
  throwIfAborted(options.signal, `write ${path}`);
  const byName = new Map(sources.map((source) => [source.name, source]));
  const writer = await SafetensorsWriter.create(path, layoutData(sources), options);
  try {
    const { tensors, dataBytes } = writer.layout;
    for (const { name, offsetBytes, sizeBytes } of tensors) {
      throwIfAborted(options.signal, `write ${path}`);
      let givenBytes = 0;
      for await (const bytes of pieces(byName.get(name)!)) {
        givenBytes += bytes.length;
        await writer.write(bytes);
      }
      if (givenBytes !== sizeBytes) {
        throw internalError(
          `write ${path}: tensor ${name} takes ${sizeBytes} bytes, its source gave ${givenBytes}`,
        );
      }
      options.onProgress?.({ doneBytes: offsetBytes + sizeBytes, totalBytes: dataBytes });
    }
    const result = await writer.finish();
    await writer.publish();
    return result;
  } catch (error) {
    await writer.discard();
    throw error;
  }
}

async function* pieces(source: TensorSource): AsyncGenerator<Uint8Array, void, void> {
  const data = await source.data();
  if (data instanceof Uint8Array) yield data;
  else yield* data;
}
