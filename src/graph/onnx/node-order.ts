/** Which nodes of a graph an ONNX model gets, and in which order. */

import type { Graph, Node } from "../graph.js";
import type { Tensor } from "../tensor.js";

export interface NodeOrderOptions {
  /**
   * Give every use of a weight its own conversion node (cast, transposition), so that a converted weight lives only
   * while it is used. For sessions that do not fold constants ahead of time (lean mode). Default false.
   */
  weightConversionPerUse?: boolean;
}

/**
 * The nodes that `targets` depend on, in the order in which a model lists them.
 *
 * Nodes whose result nobody reads but the caller (the gradients of LoRA factors) come last, in reverse order.
 * onnxruntime executes depth first, starting from the last such node: in their natural order it would compute the
 * deepest gradient first, that is run the whole backward pass, and keep every activation gradient alive until the other
 * factor gradients are done at the very end.
 */
export function orderedNodes(
  graph: Graph,
  targets: readonly Tensor[],
  options: NodeOrderOptions = {},
): Node[] {
  const nodes = reachable(graph, targets);
  return leavesLast(options.weightConversionPerUse ? convertPerUse(graph, nodes) : nodes);
}

/** The nodes that `targets` depend on, in the order they were made. */
export function reachable(graph: Graph, targets: readonly Tensor[]): Node[] {
  const needed = new Set(targets);
  const kept: Node[] = [];
  for (let index = graph.nodes.length - 1; index >= 0; index--) {
    const node = graph.nodes[index]!;
    if (!node.outputs.some((output) => needed.has(output))) continue;
    kept.push(node);
    for (const input of node.inputs) if (input !== null) needed.add(input);
  }
  return kept.reverse();
}

function leavesLast(nodes: readonly Node[]): Node[] {
  const read = new Set(nodes.flatMap((node) => node.inputs));
  const isLeaf = (node: Node) => !node.outputs.some((output) => read.has(output));
  return [...nodes.filter((node) => !isLeaf(node)), ...nodes.filter(isLeaf).reverse()];
}

/**
 * Clones nodes that depend on weights alone, one clone for every node that reads them.
 *
 * The clones come first in the model. onnxruntime visits of a node's producers the last in the model first: behind the
 * producer of the other operand, every weight on the way to the first layer would be converted before that layer is
 * executed, thousands of nodes before it is read itself.
 */
function convertPerUse(graph: Graph, nodes: readonly Node[]): Node[] {
  const producers = new Map<Tensor, Node>();
  const fromWeights = new Set<Tensor>();
  for (const node of nodes) {
    for (const output of node.outputs) producers.set(output, node);
    const inputs = node.inputs.filter((input) => input !== null);
    if (inputs.every((input) => graph.constants.has(input) || fromWeights.has(input))) {
      for (const output of node.outputs) fromWeights.add(output);
    }
  }
  const clones: Node[] = [];
  const others: Node[] = [];
  const cloneChain = (tensor: Tensor): Tensor => {
    const producer = producers.get(tensor);
    if (producer === undefined) return tensor;
    const suffix = `_use${clones.length}`;
    const outputs = producer.outputs.map((output) => ({ ...output, name: `${output.name}${suffix}` }));
    const inputs = producer.inputs.map((input) => (input === null ? null : cloneChain(input)));
    clones.push({ ...producer, inputs, outputs });
    return outputs[producer.outputs.indexOf(tensor)]!;
  };
  for (const node of nodes) {
    if (node.outputs.some((output) => fromWeights.has(output))) continue;
    const inputs = node.inputs.map((input) =>
      input !== null && fromWeights.has(input) ? cloneChain(input) : input,
    );
    others.push({ ...node, inputs });
  }
  return [...clones, ...others];
}
