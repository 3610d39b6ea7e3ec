/** The tensors of one model part, gathered from one or several safetensors files. */
import { realpath } from "node:fs/promises";
import { SafetensorsFile, type TensorInfo } from "../../safetensors/index.js";
import { refusePickle } from "./file-kind.js";

export interface FileTensor {
  /** Real path of the file. */
  readonly filePath: string;
  readonly info: TensorInfo;
}

/** Tensors by their names in the file, in file order. */
export type TensorIndex = ReadonlyMap<string, FileTensor>;

export interface TensorFile {
  readonly tensors: TensorIndex;
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Reads the header of a safetensors file; symbolic links (the Hugging Face cache is made of them) are resolved, since
 * runtimes that map weights refuse them.
 *
 * @throws {DyloraError} `E_INCOMPATIBLE` for a pickle; what the header reader throws for a damaged file
 */
export async function readTensorFile(path: string): Promise<TensorFile> {
  await refusePickle(path);
  const filePath = await realpath(path);
  const file = await SafetensorsFile.open(filePath);
  try {
    const tensors = new Map<string, FileTensor>();
    for (const [name, info] of file.header.tensors) tensors.set(name, { filePath, info });
    return { tensors, metadata: file.header.metadata ?? {} };
  } finally {
    await file.close();
  }
}
