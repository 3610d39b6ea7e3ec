/** What a thread of `prepareWeights` runs: it is sent recipes that belong together, and answers with their numbers. */

import { parentPort } from "node:worker_threads";
import type { WeightRecipe } from "../../graph/onnx/weight-recipe.js";
import { prepareTogether } from "./prepare-weight.js";

parentPort!.on("message", async (recipes: readonly WeightRecipe[]) => {
  const results = await prepareTogether(recipes);
  parentPort!.postMessage(
    results,
    results.map(({ buffer }) => buffer),
  );
});
