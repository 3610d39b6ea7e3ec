/** What is computed from a weight ahead of time, in a form that can be compared and handed to another thread. */

import type { Constant, Graph, Node } from "../graph.js";
import { fixedShape, type Tensor } from "../tensor.js";

/** How to get a float32 tensor out of a file. */
export type WeightRecipe = (
  | {
      /** The numbers at a place in a file, as float32. */
      readonly step: "read";
      readonly filePath: string;
      readonly offsetBytes: number;
      readonly dtype: "float32" | "float16" | "bfloat16";
    }
  | {
      /** Axis `i` of the result is axis `permutation[i]` of what it is made of. */
      readonly step: "transpose";
      readonly of: WeightRecipe;
      readonly permutation: readonly number[];
    }
  | {
      /** Of kernels `[O, I, 3, 3]`: `Σ_t matrix[k][t] kernel[o, i, t]`, `[K, O, I]`; `t` counts the nine taps row by row. */
      readonly step: "combineTaps";
      readonly of: WeightRecipe;
      readonly matrix: readonly (readonly number[])[];
    }
) & { readonly shape: readonly number[] };

/** Of an Einsum that combines the taps of kernels: `[K, 3, 3]` and `[O, I, 3, 3]` to `[K, O, I]`. */
export const COMBINE_TAPS_EQUATION = "kij,ocij->koc";

/** The recipes of the tensors that nodes compute from weights; none for what is computed in other ways. */
export function weightRecipes(graph: Graph, nodes: readonly Node[]): Map<Tensor, WeightRecipe> {
  const recipes = new Map<Tensor, WeightRecipe>();
  const recipeOf = (tensor: Tensor | null | undefined) =>
    tensor ? (recipes.get(tensor) ?? stored(graph.constants.get(tensor))) : undefined;
  for (const node of nodes) {
    const [output] = node.outputs as [Tensor];
    if (output.dtype !== "float32") continue;
    const recipe = recipeOfNode(graph, node, recipeOf);
    if (recipe !== undefined) recipes.set(output, recipe);
  }
  return recipes;
}

function recipeOfNode(
  graph: Graph,
  { op, inputs, outputs, attributes }: Node,
  recipeOf: (tensor: Tensor | null | undefined) => WeightRecipe | undefined,
): WeightRecipe | undefined {
  const [first, second] = inputs;
  const shape = fixedShapeOf(outputs[0]!);
  const of = recipeOf(op === "Einsum" ? second : first);
  if (of === undefined || shape === null) return undefined;
  switch (op) {
    // What is read is float32 already.
    case "Cast":
    case "Reshape":
      return { ...of, shape };
    case "Transpose":
      return { step: "transpose", of, permutation: attributes.perm as readonly number[], shape };
    case "Einsum": {
      const matrix =
        attributes.equation === COMBINE_TAPS_EQUATION ? rowsOf(graph.constants.get(first!)) : null;
      return matrix === null ? undefined : { step: "combineTaps", of, matrix, shape };
    }
    default:
      return undefined;
  }
}

function stored(constant: Constant | undefined): WeightRecipe | undefined {
  if (constant === undefined || constant.data instanceof Uint8Array) return undefined;
  const { tensor, data } = constant;
  const { dtype } = tensor;
  if (dtype !== "float32" && dtype !== "float16" && dtype !== "bfloat16") return undefined;
  const { filePath, offsetBytes } = data;
  return { step: "read", filePath, offsetBytes, dtype, shape: fixedShape(tensor.shape) };
}

/** The rows of a float32 constant that lies in the model. */
function rowsOf(constant: Constant | undefined): number[][] | null {
  if (constant === undefined || !(constant.data instanceof Uint8Array)) return null;
  const { buffer, byteOffset, byteLength } = constant.data;
  const values = [...new Float32Array(buffer.slice(byteOffset, byteOffset + byteLength))];
  const width = values.length / (constant.tensor.shape[0] as number);
  return Array.from({ length: values.length / width }, (_, row) =>
    values.slice(row * width, (row + 1) * width),
  );
}

function fixedShapeOf({ shape }: Tensor): number[] | null {
  return shape.every((dim) => typeof dim === "number") ? fixedShape(shape) : null;
}
