/** Turns a graph into an ONNX model. */

import { dirname, relative, sep } from "node:path";
import { internalError } from "../../errors.js";
import type { Constant, ExternalData, Graph, Node } from "../graph.js";
import { fixedShape, type Tensor } from "../tensor.js";
import { type NodeOrderOptions, orderedNodes } from "./node-order.js";
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

export type LowerOptions = NodeOrderOptions;

/**
 * Lowers the part of `graph` that `outputs` depend on.
 */
export function lowerToOnnx(
  graph: Graph,
  outputs: Readonly<Record<string, Tensor>>,
  options: LowerOptions = {},
): LoweredModel {
  const nodes = orderedNodes(graph, Object.values(outputs), options);
  return lowerNodes({ nodes, inputs: graph.inputs, constants: graph.constants }, outputs);
}

/** Nodes that follow each other, and what they may read besides each other's results. */
export interface NodeList {
  readonly nodes: readonly Node[];
  /** Those that no node reads are left out. */
  readonly inputs: readonly Tensor[];
  readonly constants: ReadonlyMap<Tensor, Constant>;
}

/** Lowers nodes as they are. */
export function lowerNodes(list: NodeList, outputs: Readonly<Record<string, Tensor>>): LoweredModel {
  const names = new Map<Tensor, string>();
  const identities: ProtoNode[] = [];
  for (const [name, tensor] of Object.entries(outputs)) {
    if (names.has(tensor) || list.inputs.includes(tensor) || list.constants.has(tensor)) {
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
  for (const node of list.nodes) for (const input of node.inputs) if (input !== null) used.add(input);
  const constants = [...list.constants.values()].filter(({ tensor }) => used.has(tensor));
  const files = constants.flatMap(({ data }) => (data instanceof Uint8Array ? [] : [data.filePath]));
  const dataFolder = commonFolder(files);
  const inputs = list.inputs.filter((input) => used.has(input));

  const bytes = encodeModel({
    nodes: [
      ...list.nodes.map((node) => ({
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
  const nodeCount = list.nodes.length;
  return { bytes, dataFolder, inputs, outputs: new Map(Object.entries(outputs)), nodeCount };
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
