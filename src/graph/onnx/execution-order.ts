/**
 * What onnxruntime makes of a model's nodes: which of them it executes, and in which order.
 *
 * Sources are paths in https://github.com/microsoft/onnxruntime (1.30), below onnxruntime/core/.
 */

import type { Node } from "../graph.js";
import type { Tensor } from "../tensor.js";

/**
 * The order in which onnxruntime executes nodes: depth first from the results that nobody reads, beginning with the last of
 * them in the model; of a node's producers the last in the model goes first (graph/graph_viewer.cc, graph/graph.cc
 * `ReverseDFSFrom`).
 *
 * @param nodes - in the order of the model
 */
export function executionOrder(nodes: readonly Node[]): Node[] {
  const producer = new Map<Tensor, number>();
  for (const [index, node] of nodes.entries()) {
    for (const output of node.outputs) producer.set(output, index);
  }
  const producersOf = (node: Node) => {
    const indices = node.inputs.flatMap((input) => (input === null ? [] : (producer.get(input) ?? [])));
    return [...new Set(indices)].sort((a, b) => a - b);
  };
  const read = new Set(nodes.flatMap((node) => node.inputs));
  // A stack of indices to visit; ~index says that everything below the node is done.
  const stack = [...nodes.keys()].filter(
    (index) => !nodes[index]!.outputs.some((output) => read.has(output)),
  );
  const visited = new Set<number>();
  const order: Node[] = [];
  while (stack.length > 0) {
    const index = stack.pop()!;
    if (index < 0) {
      order.push(nodes[~index]!);
    } else if (!visited.has(index)) {
      visited.add(index);
      stack.push(~index);
      for (const next of producersOf(nodes[index]!)) if (!visited.has(next)) stack.push(next);
    }
  }
  return order;
}

/**
 * The nodes that remain when equal nodes are merged (optimizer/common_subexpression_elimination.cc) and constants are
 * computed ahead of time (optimizer/constant_folding.cc): what "basic" graph optimization does to a training step that
 * matters for its memory.
 *
 * @param nodes - in the order of the model
 * @param constants - the tensors that are known ahead of time
 * @param outputs - the results that the caller reads
 * @returns the remaining nodes in the order of the model, and the constants they read that were computed ahead of time
 */
export function simplify(
  nodes: readonly Node[],
  constants: { has(tensor: Tensor): boolean },
  outputs: ReadonlySet<Tensor>,
): { nodes: Node[]; computed: Tensor[] } {
  const computed = new Set<Tensor>();
  const isKnown = (tensor: Tensor | null) => tensor === null || constants.has(tensor) || computed.has(tensor);
  const remaining = mergeEqual(nodes, outputs).filter((node) => {
    if (!node.inputs.every(isKnown) || node.outputs.some((output) => outputs.has(output))) return true;
    for (const output of node.outputs) computed.add(output);
    return false;
  });
  const read = new Set(remaining.flatMap((node) => node.inputs));
  return { nodes: remaining, computed: [...computed].filter((tensor) => read.has(tensor)) };
}

/** Of nodes with the same operator, inputs and attributes keeps the one that is executed first, and those with an output. */
function mergeEqual(nodes: readonly Node[], outputs: ReadonlySet<Tensor>): Node[] {
  const replacement = new Map<Tensor, Tensor>();
  const current = (tensor: Tensor | null) => (tensor === null ? null : (replacement.get(tensor) ?? tensor));
  const kept = new Map<string, Node>();
  const merged = new Set<Node>();
  for (const node of executionOrder(nodes)) {
    const inputs = node.inputs.map((input) => current(input)?.name ?? "");
    const key = JSON.stringify([node.domain, node.op, inputs, node.attributes, node.outputs.length]);
    const first = kept.get(key);
    if (first === undefined) {
      kept.set(key, node);
    } else if (!node.outputs.some((output) => outputs.has(output))) {
      merged.add(node);
      for (const [i, output] of node.outputs.entries()) replacement.set(output, first.outputs[i]!);
    }
  }
  return nodes
    .filter((node) => !merged.has(node))
    .map((node) => ({ ...node, inputs: node.inputs.map(current) }));
}
