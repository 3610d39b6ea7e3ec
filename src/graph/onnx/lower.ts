/** Turns a graph into an ONNX model. */

import { dirname, relative, sep } from "node:path";
import { internalError } from "../../errors.js";
import type { ExternalData, Graph, Node } from "../graph.js";
import { fixedShape, type Tensor } from "../tensor.js";
import { encodeModel, type ProtoInitializer, type ProtoNode } from "./proto.js";

export interface LoweredModel {
  /** A serialized ModelProto. */
  readonly bytes: Uint8Array;
  /** Folder that the model's external data is relative to; null when it has none. */
  readonly dataFolder: string | null;
  readonly inputs: readonly Tensor[];
  /** Output names and their tensors, in the order asked for. */
  readonly outputs: ReadonlyMap<string, Tensor>;
  readonly nodeCount: number;
}

export interface LowerOptions {
  /**
   * Give every use of a weight its own conversion node (cast, transposition), so that a converted weight lives only
   * while it is used. For sessions that do not fold constants ahead of time (lean mode). Default false.
   */
  weightConversionPerUse?: boolean;
}

/**
 * Lowers the part of `graph` that `outputs` depend on.
 *
 * Nodes whose result nobody reads but the caller (the gradients of LoRA factors) are written last, in reverse order.
 * onnxruntime executes depth first, starting from the last such node: in their natural order it would compute the
 * deepest gradient first, that is run the whole backward pass, and keep every activation gradient alive until the other
 * factor gradients are done at the very end.
 */
export function lowerToOnnx(
  graph: Graph,
  outputs: Readonly<Record<string, Tensor>>,
  options: LowerOptions = {},
): LoweredModel {
  const nodes = reachable(graph, Object.values(outputs));
  const uses = options.weightConversionPerUse ? convertPerUse(graph, nodes) : nodes;
  const ordered = leavesLast(uses);

  const names = new Map<Tensor, string>();
  const identities: ProtoNode[] = [];
  for (const [name, tensor] of Object.entries(outputs)) {
    if (names.has(tensor) || graph.inputs.includes(tensor) || graph.constants.has(tensor)) {
      identities.push({
        op: "Identity",
        domain: "",
        name: `output ${name}`,
        inputs: [names.get(tensor) ?? tensor.name],
        outputs: [name],
        attributes: {},
      });
    } else {
      names.set(tensor, name);
    }
  }
  const nameOf = (tensor: Tensor | null) => (tensor === null ? "" : (names.get(tensor) ?? tensor.name));

  const used = new Set<Tensor>(Object.values(outputs));
  for (const node of ordered) for (const input of node.inputs) if (input !== null) used.add(input);
  const constants = [...graph.constants.values()].filter(({ tensor }) => used.has(tensor));
  const files = constants.flatMap(({ data }) => (data instanceof Uint8Array ? [] : [data.filePath]));
  const dataFolder = commonFolder(files);
  const inputs = graph.inputs.filter((input) => used.has(input));

  const bytes = encodeModel({
    nodes: [
      ...ordered.map((node) => ({
        op: node.op,
        domain: node.domain,
        name: node.outputs[0]!.name,
        inputs: node.inputs.map(nameOf),
        outputs: node.outputs.map(nameOf),
        attributes: node.attributes,
      })),
      ...identities,
    ],
    initializers: constants.map(
      ({ tensor, data }): ProtoInitializer => ({
        name: tensor.name,
        dtype: tensor.dtype,
        shape: fixedShape(tensor.shape),
        data: data instanceof Uint8Array ? data : locate(data, dataFolder!),
      }),
    ),
    inputs: inputs.map(({ name, dtype, shape }) => ({ name, dtype, shape })),
    outputs: Object.entries(outputs).map(([name, { dtype, shape }]) => ({ name, dtype, shape })),
  });
  return { bytes, dataFolder, inputs, outputs: new Map(Object.entries(outputs)), nodeCount: ordered.length };
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

/** Clones nodes that depend on weights alone, one clone for every node that reads them. */
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
  let clones = 0;
  const result: Node[] = [];
  const cloneChain = (tensor: Tensor): Tensor => {
    const producer = producers.get(tensor);
    if (producer === undefined) return tensor;
    const suffix = `_use${clones++}`;
    const outputs = producer.outputs.map((output) => ({ ...output, name: `${output.name}${suffix}` }));
    result.push({
      ...producer,
      inputs: producer.inputs.map((input) => (input === null ? null : cloneChain(input))),
      outputs,
    });
    return outputs[producer.outputs.indexOf(tensor)]!;
  };
  for (const node of nodes) {
    if (node.outputs.some((output) => fromWeights.has(output))) continue;
    const inputs = node.inputs.map((input) =>
      input !== null && fromWeights.has(input) ? cloneChain(input) : input,
    );
    result.push({ ...node, inputs });
  }
  return result;
}

/** The deepest folder that holds all files; null without files. */
function commonFolder(files: readonly string[]): string | null {
  const folders = [...new Set(files.map((file) => dirname(file)))];
  let common = folders[0];
  if (common === undefined) return null;
  for (const folder of folders) {
    while (folder !== common && !folder.startsWith(common === sep ? sep : `${common}${sep}`)) {
      const parent = dirname(common);
      if (parent === common) throw internalError(`${files.join(", ")} share no folder`);
      common = parent;
    }
  }
  return common;
}

function locate(data: ExternalData, folder: string) {
  const { offsetBytes, sizeBytes } = data;
  return { location: relative(folder, data.filePath).split(sep).join("/"), offsetBytes, sizeBytes };
}
