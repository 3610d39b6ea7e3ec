/** Computes prepared weights on this thread. */

import type { WeightRecipe } from "../../graph/onnx/weight-recipe.js";
import { ELEMENT_SIZE_BYTES, elementCount } from "../../graph/tensor.js";
import { PositionalFile } from "../../io/index.js";
import { decodeToFloat32 } from "../../safetensors/index.js";
import { combineTaps } from "./combine-taps.js";
import { transposed } from "./transposed.js";

type ReadRecipe = Extract<WeightRecipe, { step: "read" }>;

const DTYPE = { float32: "F32", float16: "F16", bfloat16: "BF16" } as const;

/** What a recipe begins with. */
export function rootOf(recipe: WeightRecipe): ReadRecipe {
  return recipe.step === "read" ? recipe : rootOf(recipe.of);
}

/**
 * Several results that begin with the same numbers of a file, which are read once.
 *
 * @returns for each recipe the numbers in row-major order of its shape, in memory of their own
 * @throws {DyloraError} `E_NOT_FOUND`, `E_READ`, also where the file ends too early
 */
export async function prepareTogether(
  recipes: readonly WeightRecipe[],
): Promise<Float32Array<ArrayBuffer>[]> {
  const numbers = await readNumbers(rootOf(recipes[0]!));
  let isGivenAway = false;
  return recipes.map((recipe) => {
    if (recipe.step !== "read") return computed(recipe, numbers);
    const result = isGivenAway ? numbers.slice() : numbers;
    isGivenAway = true;
    return result;
  });
}

function computed(recipe: WeightRecipe, numbers: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  switch (recipe.step) {
    case "read":
      return numbers;
    case "transpose":
      return transposed(computed(recipe.of, numbers), recipe.of.shape, recipe.permutation);
    case "combineTaps":
      return combineTaps(computed(recipe.of, numbers), recipe.matrix);
  }
}

async function readNumbers({
  filePath,
  offsetBytes,
  dtype,
  shape,
}: ReadRecipe): Promise<Float32Array<ArrayBuffer>> {
  const bytes = new Uint8Array(elementCount(shape) * ELEMENT_SIZE_BYTES[dtype]);
  const file = await PositionalFile.open(filePath);
  try {
    await file.read(bytes, offsetBytes);
  } finally {
    await file.close();
  }
  return decodeToFloat32(bytes, DTYPE[dtype]) as Float32Array<ArrayBuffer>;
}
