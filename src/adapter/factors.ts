/** A module's factors as numbers, the way the trainer and the arithmetic want them. */
import { decodeToFloat32 } from "../safetensors/codecs.js";
import type { SafetensorsFile } from "../safetensors/file.js";
import type { LoraModule } from "./module.js";

/**
 * Both factors with the rank as their first axis, so that the prefix of rank b is the first part of both arrays.
 *
 * Axes: `R` rank, `I` input features times kernel elements, `O` output features.
 */
export interface ModuleFactors {
  /** `[R, I]` */
  readonly down: Float32Array;
  /** `[R, O]`: the transposed up factor. */
  readonly upT: Float32Array;
}

/** Reads one module's factors as float32. Errors as `SafetensorsFile.read`. */
export async function readFactors(
  file: Pick<SafetensorsFile, "read" | "readFloat32">,
  module: LoraModule,
): Promise<ModuleFactors> {
  const [down, up] = await Promise.all([file.readFloat32(module.down.name), file.read(module.up.name)]);
  const upValues = decodeToFloat32(up, module.up.dtype);
  return { down, upT: transpose(upValues, module.outFeatures, module.rank) };
}

/** Matrices are read in square blocks, so that neither side of the transposition leaves the cache. */
const BLOCK = 32;

/** `[rows, columns]` to `[columns, rows]`, row-major. */
export function transpose(values: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(values.length);
  for (let rowBlock = 0; rowBlock < rows; rowBlock += BLOCK) {
    const rowEnd = Math.min(rowBlock + BLOCK, rows);
    for (let columnBlock = 0; columnBlock < columns; columnBlock += BLOCK) {
      const columnEnd = Math.min(columnBlock + BLOCK, columns);
      for (let row = rowBlock; row < rowEnd; row++) {
        for (let column = columnBlock; column < columnEnd; column++) {
          result[column * rows + row] = values[row * columns + column]!;
        }
      }
    }
  }
  return result;
}
