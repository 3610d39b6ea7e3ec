/**
 * Writes ONNX models: the few messages of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3) that a
 * lowered graph needs, field numbers as there.
 */

import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import type { AttributeValue } from "../graph.js";
import { ONNX_ELEMENT_TYPE } from "../ops/elementwise.js";
import type { ElementType, Shape } from "../tensor.js";

type Write = (writer: BinaryWriter) => void;

function message(writer: BinaryWriter, field: number, write: Write): void {
  writer.tag(field, WireType.LengthDelimited).fork();
  write(writer);
  writer.join();
}

function text(writer: BinaryWriter, field: number, value: string): void {
  writer.tag(field, WireType.LengthDelimited).string(value);
}

function integer(writer: BinaryWriter, field: number, value: number): void {
  writer.tag(field, WireType.Varint).int64(value);
}

export interface ProtoNode {
  op: string;
  domain: string;
  name: string;
  inputs: readonly string[];
  outputs: readonly string[];
  attributes: Readonly<Record<string, AttributeValue>>;
}

export interface ProtoInitializer {
  name: string;
  dtype: ElementType;
  shape: readonly number[];
  data: Uint8Array | { location: string; offsetBytes: number; sizeBytes: number };
}

export interface ProtoValue {
  name: string;
  dtype: ElementType;
  shape: Shape;
}

export interface ProtoModel {
  nodes: readonly ProtoNode[];
  initializers: readonly ProtoInitializer[];
  inputs: readonly ProtoValue[];
  outputs: readonly ProtoValue[];
}

/** Version of the standard operator set that every operator here is written for. */
const OPSET_VERSION = 18;
/** The oldest file version that has that operator set. */
const IR_VERSION = 8;

/** The bytes of a ModelProto. */
export function encodeModel(model: ProtoModel): Uint8Array {
  const writer = new BinaryWriter();
  integer(writer, 1, IR_VERSION);
  text(writer, 2, "dylora");
  message(writer, 7, (graph) => {
    for (const node of model.nodes) message(graph, 1, (w) => writeNode(w, node));
    text(graph, 2, "dylora");
    for (const initializer of model.initializers) message(graph, 5, (w) => writeInitializer(w, initializer));
    for (const value of model.inputs) message(graph, 11, (w) => writeValue(w, value));
    for (const value of model.outputs) message(graph, 12, (w) => writeValue(w, value));
  });
  for (const [domain, version] of [
    ["", OPSET_VERSION],
    ["com.microsoft", 1],
  ] as const) {
    message(writer, 8, (w) => {
      text(w, 1, domain);
      integer(w, 2, version);
    });
  }
  return writer.finish();
}

function writeNode(writer: BinaryWriter, node: ProtoNode): void {
  for (const input of node.inputs) text(writer, 1, input);
  for (const output of node.outputs) text(writer, 2, output);
  text(writer, 3, node.name);
  text(writer, 4, node.op);
  for (const [name, value] of Object.entries(node.attributes)) {
    message(writer, 5, (w) => writeAttribute(w, name, value));
  }
  text(writer, 7, node.domain);
}

const ATTRIBUTE_TYPE = { float: 1, int: 2, string: 3, ints: 7 } as const;

function writeAttribute(writer: BinaryWriter, name: string, value: AttributeValue): void {
  text(writer, 1, name);
  if (typeof value === "number") {
    integer(writer, 3, value);
    integer(writer, 20, ATTRIBUTE_TYPE.int);
  } else if (typeof value === "string") {
    text(writer, 4, value);
    integer(writer, 20, ATTRIBUTE_TYPE.string);
  } else if ("float" in value) {
    writer.tag(2, WireType.Bit32).float(value.float);
    integer(writer, 20, ATTRIBUTE_TYPE.float);
  } else {
    for (const item of value) integer(writer, 8, item);
    integer(writer, 20, ATTRIBUTE_TYPE.ints);
  }
}

const EXTERNAL_LOCATION = 1;

function writeInitializer(writer: BinaryWriter, { name, dtype, shape, data }: ProtoInitializer): void {
  for (const dim of shape) integer(writer, 1, dim);
  integer(writer, 2, ONNX_ELEMENT_TYPE[dtype]);
  text(writer, 8, name);
  if (data instanceof Uint8Array) {
    writer.tag(9, WireType.LengthDelimited).bytes(data);
    return;
  }
  const entries = { location: data.location, offset: `${data.offsetBytes}`, length: `${data.sizeBytes}` };
  for (const [key, value] of Object.entries(entries)) {
    message(writer, 13, (w) => {
      text(w, 1, key);
      text(w, 2, value);
    });
  }
  integer(writer, 14, EXTERNAL_LOCATION);
}

function writeValue(writer: BinaryWriter, { name, dtype, shape }: ProtoValue): void {
  text(writer, 1, name);
  message(writer, 2, (type) =>
    message(type, 1, (tensor) => {
      integer(tensor, 1, ONNX_ELEMENT_TYPE[dtype]);
      message(tensor, 2, (dims) => {
        for (const dim of shape) {
          message(dims, 1, (w) => (typeof dim === "number" ? integer(w, 1, dim) : text(w, 2, dim)));
        }
      });
    }),
  );
}
