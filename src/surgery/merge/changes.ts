/** Where a base model keeps the weights that a merge changes. */
import { internalError } from "../../errors.js";
import type { WeightRef } from "../../models/checkpoint/index.js";
import { readHeader, type TensorInfo } from "../../safetensors/index.js";
import type { ModelTarget } from "./model.js";
import type { MergeModule } from "./terms.js";

/** Rows of a tensor that belong to one module; OpenCLIP packs three modules into one tensor. */
export interface ChangedRows {
  readonly module: MergeModule;
  readonly firstRow: number;
  readonly rowCount: number;
}

/** By file, then by tensor: the changed rows, ascending. */
export type Changes = ReadonlyMap<string, ReadonlyMap<string, readonly ChangedRows[]>>;

/** Finds the tensors, and the rows in them, that the modules' weights are. */
export async function locateChanges(
  targets: ReadonlyMap<string, ModelTarget>,
  modules: readonly MergeModule[],
): Promise<Changes> {
  const changes = new Map<string, Map<string, ChangedRows[]>>();
  const headers = new Map<string, readonly TensorInfo[]>();
  for (const module of modules) {
    const { weight } = targets.get(module.name)!;
    const { filePath } = weight;
    let tensors = headers.get(filePath);
    if (tensors === undefined) {
      tensors = [...(await readHeader(filePath)).tensors.values()];
      headers.set(filePath, tensors);
      changes.set(filePath, new Map());
    }
    const tensor = tensorAround(tensors, weight);
    const rowBytes = tensor.sizeBytes / tensor.shape[0]!;
    const inFile = changes.get(filePath)!;
    const rows = inFile.get(tensor.name) ?? [];
    inFile.set(tensor.name, rows);
    rows.push({
      module,
      firstRow: (weight.offsetBytes - tensor.offsetBytes) / rowBytes,
      rowCount: weight.sizeBytes / rowBytes,
    });
  }
  for (const inFile of changes.values()) {
    for (const rows of inFile.values()) rows.sort((a, b) => a.firstRow - b.firstRow);
  }
  return changes;
}

function tensorAround(tensors: readonly TensorInfo[], weight: WeightRef): TensorInfo {
  const end = weight.offsetBytes + weight.sizeBytes;
  const found = tensors.find(
    ({ offsetBytes, sizeBytes }) => offsetBytes <= weight.offsetBytes && end <= offsetBytes + sizeBytes,
  );
  if (found === undefined) throw internalError(`${weight.filePath} was changed while it was read`);
  return found;
}
