/**
 * Takes out of a graph what it computes from weights alone: conversions, transpositions and transformations. They are computed
 * once, and are inputs of the model that is left.
 *
 * onnxruntime would compute them, too, while it makes a session (constant folding). But then every session has results of its own,
 * whatever other sessions hold, it keeps every intermediate result until it is made, and it works on one core.
 */

import type { Graph, Node } from "../graph.js";
import { ELEMENT_SIZE_BYTES, elementCount, type Tensor } from "../tensor.js";
import { type LoweredModel, lowerNodes } from "./lower.js";
import { orderedNodes } from "./node-order.js";
import { type WeightRecipe, weightRecipes } from "./weight-recipe.js";

/** Results below this size stay with the model: biases, normalizations. */
const SMALL_RESULT_BYTES = 64 * 1024;

/** A result that was taken out. */
export interface PreparedWeight {
  readonly tensor: Tensor;
  readonly recipe: WeightRecipe;
  /** Of the recipe: the same for the same computation on the same bytes of a file, whatever graph it is part of. */
  readonly key: string;
}

export interface Preparation {
  /** What is left, in the order of the model. */
  readonly nodes: readonly Node[];
  /** What these nodes read of the results that were taken out. */
  readonly weights: readonly PreparedWeight[];
}

/**
 * Splits the part of `graph` that `outputs` depend on. Equal computations on weights, in the forward and the backward pass, become
 * one.
 */
export function takeOutPreparation(graph: Graph, outputs: readonly Tensor[]): Preparation {
  const nodes = orderedNodes(graph, outputs);
  const recipes = weightRecipes(graph, nodes);
  for (const output of outputs) recipes.delete(output);
  const weights = new Map<string, PreparedWeight>();
  const kept = new Set<Node>();
  const producers = new Map(nodes.flatMap((node) => node.outputs.map((output) => [output, node] as const)));
  const replacements = new Map<Tensor, Tensor>();
  const keep = (node: Node) => {
    if (kept.has(node)) return;
    kept.add(node);
    for (const input of node.inputs) {
      const recipe = input === null ? undefined : recipes.get(input);
      if (input === null || recipe === undefined) continue;
      if (elementCount(input.shape) * ELEMENT_SIZE_BYTES[input.dtype] < SMALL_RESULT_BYTES) {
        keep(producers.get(input)!);
        continue;
      }
      const key = JSON.stringify(recipe);
      const weight = weights.get(key) ?? { tensor: input, recipe, key };
      weights.set(key, weight);
      replacements.set(input, weight.tensor);
    }
  };
  for (const node of nodes) if (!node.outputs.some((output) => recipes.has(output))) keep(node);
  const replaced = (input: Tensor | null) => (input === null ? null : (replacements.get(input) ?? input));
  return {
    nodes: nodes
      .filter((node) => kept.has(node))
      .map((node) => ({ ...node, inputs: node.inputs.map(replaced) })),
    weights: [...weights.values()],
  };
}

/** The model of what is left, which reads the weights as inputs under their tensors' names. */
export function lowerPrepared(
  graph: Graph,
  { nodes, weights }: Preparation,
  outputs: Readonly<Record<string, Tensor>>,
): LoweredModel {
  const inputs = [...graph.inputs, ...weights.map(({ tensor }) => tensor)];
  return lowerNodes({ nodes, inputs, constants: graph.constants }, outputs);
}
