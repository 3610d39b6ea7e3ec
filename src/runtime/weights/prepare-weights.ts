/** Computes prepared weights, on several threads where that is worth it. */

import { once } from "node:events";
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import type { WeightRecipe } from "../../graph/onnx/weight-recipe.js";
import { elementCount } from "../../graph/tensor.js";
import { prepareTogether, rootOf } from "./prepare-weight.js";

/** Below this many numbers, starting threads (some 50 ms) takes longer than the work. */
const FEWEST_NUMBERS = 16e6;

/** More threads would wait for the disk and for memory. */
const MOST_THREADS = 8;

/** Compiled beside this file. Run from source, as the unit tests do, there is only this thread. */
const THREAD_FILE = new URL("./weight-thread.js", import.meta.url);
const CAN_START_THREADS = import.meta.url.endsWith(".js");

/**
 * @returns the numbers of each recipe, in their order
 * @throws {DyloraError} `E_READ`
 */
export async function prepareWeights(recipes: readonly WeightRecipe[]): Promise<Float32Array[]> {
  const results = new Array<Float32Array>(recipes.length);
  const waiting = groupByRoot(recipes).values();
  const work = async (prepare: (together: readonly WeightRecipe[]) => Promise<readonly Float32Array[]>) => {
    // Each thread takes the next group when it is done with one.
    for (const group of waiting) {
      const numbers = await prepare(group.map((index) => recipes[index]!));
      for (const [position, index] of group.entries()) results[index] = numbers[position]!;
    }
  };
  const count = recipes.reduce((total, { shape }) => total + elementCount(shape), 0);
  const threads = CAN_START_THREADS && count >= FEWEST_NUMBERS ? availableParallelism() : 1;
  if (threads === 1) await work(prepareTogether);
  else await Promise.all(Array.from({ length: Math.min(threads, MOST_THREADS) }, () => onThread(work)));
  return results;
}

async function onThread(
  work: (prepare: (together: readonly WeightRecipe[]) => Promise<readonly Float32Array[]>) => Promise<void>,
): Promise<void> {
  const thread = new Worker(THREAD_FILE);
  try {
    await work(async (together) => {
      thread.postMessage(together);
      const [numbers] = (await once(thread, "message")) as [readonly Float32Array[]];
      return numbers;
    });
  } finally {
    await thread.terminate();
  }
}

/** Indices of the recipes that begin with the same numbers, the largest groups first: no thread is left with one in the end. */
function groupByRoot(recipes: readonly WeightRecipe[]): number[][] {
  const groups = new Map<string, number[]>();
  for (const [index, recipe] of recipes.entries()) {
    const { filePath, offsetBytes } = rootOf(recipe);
    const key = `${filePath}:${offsetBytes}`;
    groups.set(key, [...(groups.get(key) ?? []), index]);
  }
  const size = (group: readonly number[]) =>
    group.reduce((total, index) => total + elementCount(recipes[index]!.shape), 0);
  return [...groups.values()].sort((a, b) => size(b) - size(a));
}
