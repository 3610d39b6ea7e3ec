/**
 * Several safetensors files read as one: PEFT's folder for each component of a pipeline.
 *
 * The names get their folder in front (`unet/base_model.model.…`), as text encoders use the same names.
 */
import { DyloraError, internalError } from "../errors.js";
import type { SafetensorsFile, SafetensorsHeader, TensorInfo } from "../safetensors/index.js";

/** What a `SafetensorsFile` can do, whatever is behind it. */
export type TensorReader = Pick<SafetensorsFile, keyof SafetensorsFile>;

export class CombinedFile implements TensorReader {
  readonly path: string;
  readonly sizeBytes: number;
  /** Positions are those in each tensor's own file. Metadata: all files' together, the first file's entry counting. */
  readonly header: SafetensorsHeader;
  readonly #files: ReadonlyMap<string, SafetensorsFile>;

  /** @param files - by folder name */
  constructor(path: string, files: ReadonlyMap<string, SafetensorsFile>) {
    this.path = path;
    this.#files = files;
    const tensors = new Map<string, TensorInfo>();
    let metadata: Readonly<Record<string, string>> | null = null;
    let sizeBytes = 0;
    let dataStartBytes = 0;
    for (const [folder, file] of files) {
      sizeBytes += file.sizeBytes;
      dataStartBytes += file.header.dataStartBytes;
      for (const [name, info] of file.header.tensors) {
        tensors.set(`${folder}/${name}`, { ...info, name: `${folder}/${name}` });
      }
      if (file.header.metadata !== null) metadata = { ...file.header.metadata, ...(metadata ?? {}) };
    }
    this.sizeBytes = sizeBytes;
    this.header = { tensors, metadata, dataStartBytes };
  }

  info(name: string): TensorInfo {
    const info = this.header.tensors.get(name);
    if (info === undefined) {
      throw new DyloraError("E_INCOMPATIBLE", `read ${this.path}: it has no tensor ${JSON.stringify(name)}`);
    }
    return info;
  }

  read(name: string): Promise<Uint8Array> {
    const [file, ownName] = this.#locate(name);
    return file.read(ownName);
  }

  readRange(name: string, beginByte: number, endByte: number): Promise<Uint8Array> {
    const [file, ownName] = this.#locate(name);
    return file.readRange(ownName, beginByte, endByte);
  }

  readInto(name: string, beginByte: number, target: Uint8Array): Promise<void> {
    const [file, ownName] = this.#locate(name);
    return file.readInto(ownName, beginByte, target);
  }

  readScalarSync(name: string): Uint8Array {
    const [file, ownName] = this.#locate(name);
    return file.readScalarSync(ownName);
  }

  readFloat32(name: string): Promise<Float32Array> {
    const [file, ownName] = this.#locate(name);
    return file.readFloat32(ownName);
  }

  stream(name: string, chunkBytes?: number): AsyncGenerator<Uint8Array, void, void> {
    const [file, ownName] = this.#locate(name);
    return file.stream(ownName, chunkBytes);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#files.values()].map((file) => file.close()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #locate(name: string): [SafetensorsFile, string] {
    const slash = this.info(name).name.indexOf("/");
    const file = this.#files.get(name.slice(0, slash));
    if (file === undefined) throw internalError(`${this.path}: no file for ${name}`);
    return [file, name.slice(slash + 1)];
  }
}
