/**
 * A computation as a list of ONNX nodes, with what reverse-mode differentiation needs to know about each operation.
 *
 * A *node* is one ONNX operator. An *operation* is what has a gradient rule: usually one node, or several that were
 * built under {@link Graph.operation} and are differentiated as a whole (a group normalization, an attention).
 */

import { internalError } from "../errors.js";
import { type ElementType, elementCount, formatShape, type Shape, type Tensor } from "./tensor.js";

export type AttributeValue = number | string | readonly number[] | { readonly float: number };

export interface Node {
  readonly op: string;
  /** "" is the ONNX standard set, "com.microsoft" onnxruntime's own. */
  readonly domain: "" | "com.microsoft";
  /** A null stands for an optional input that is left out. */
  readonly inputs: readonly (Tensor | null)[];
  readonly outputs: readonly Tensor[];
  readonly attributes: Readonly<Record<string, AttributeValue>>;
}

/**
 * Vector-Jacobian product of an operation.
 *
 * @param dOutputs - gradient for each output, null where none arrived (never all null)
 * @param wanted - for each input, whether its gradient is needed
 * @returns a gradient of the input's shape for each wanted input; null means zero
 */
export type GradientRule = (
  dOutputs: readonly (Tensor | null)[],
  wanted: readonly boolean[],
) => readonly (Tensor | null)[];

export interface Operation {
  readonly label: string;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly gradient: GradientRule;
}

/** Where the bytes of a constant lie in a file that the runtime maps into memory. */
export interface ExternalData {
  readonly filePath: string;
  readonly offsetBytes: number;
  readonly sizeBytes: number;
}

export interface Constant {
  readonly tensor: Tensor;
  /** Raw little-endian bytes, or a place in a file. */
  readonly data: Uint8Array | ExternalData;
}

export interface NodeSpec {
  op: string;
  domain?: "" | "com.microsoft";
  inputs: readonly (Tensor | null)[];
  attributes?: Readonly<Record<string, AttributeValue>>;
  /** Shape and type of each output. */
  outputs: readonly { shape: Shape; dtype: ElementType }[];
}

export interface GraphOptions {
  /** Type that float16 tensors are multiplied in; float32 on devices that would add the products up in float16. Default float16. */
  halfProductType?: "float16" | "float32";
}

export class Graph {
  readonly nodes: Node[] = [];
  readonly inputs: Tensor[] = [];
  readonly constants = new Map<Tensor, Constant>();

  readonly #halfProductType: "float16" | "float32";
  readonly #names = new Set<string>();
  readonly #scalars = new Map<string, Tensor>();
  #counter = 0;
  /** The list that operations are recorded on; null while their gradients are not wanted. */
  #tape: Operation[] | null = [];
  /** What new nodes read instead of a tensor; see {@link Graph.substituting}. */
  #substitutes: ReadonlyMap<Tensor, Tensor> = new Map();
  /** Inside an operation: whether its inputs need a gradient. Null outside. */
  #insideOperation: boolean | null = null;
  /** What {@link Graph.sharedInPass} made since the tape changed. */
  #shared = new Map<Tensor, Map<string, Tensor>>();

  constructor({ halfProductType = "float16" }: GraphOptions = {}) {
    this.#halfProductType = halfProductType;
  }

  /** The type that matrices and images of a type are multiplied in. */
  productType(dtype: ElementType): ElementType {
    return dtype === "float16" ? this.#halfProductType : dtype;
  }

  /** A value that is fed at every run. `trainable` asks for its gradient. */
  input(name: string, dtype: ElementType, shape: Shape, options: { trainable?: boolean } = {}): Tensor {
    const tensor = this.#tensor(name, dtype, shape, options.trainable === true);
    this.inputs.push(tensor);
    return tensor;
  }

  /** A constant whose bytes lie in a file (a weight of the base model). */
  external(name: string, dtype: ElementType, shape: readonly number[], data: ExternalData): Tensor {
    const tensor = this.#tensor(name, dtype, shape, false);
    this.constants.set(tensor, { tensor, data });
    return tensor;
  }

  /** A small constant stored in the model itself. */
  constant(
    values: readonly number[],
    dtype: ElementType,
    shape: readonly number[] = [values.length],
  ): Tensor {
    if (values.length !== elementCount(shape)) {
      throw internalError(`${values.length} values for a constant of shape ${formatShape(shape)}`);
    }
    const key = `${dtype}:${shape.join("x")}:${values.join(",")}`;
    const known = this.#scalars.get(key);
    if (known !== undefined) return known;
    const tensor = this.#tensor(`const_${this.#counter++}`, dtype, shape, false);
    this.constants.set(tensor, { tensor, data: encodeConstant(values, dtype) });
    this.#scalars.set(key, tensor);
    return tensor;
  }

  /** Appends one ONNX node without a gradient rule. Operators call this inside {@link Graph.operation}. */
  node(spec: NodeSpec): Tensor[] {
    const outputs = spec.outputs.map(({ shape, dtype }) =>
      this.#tensor(`${spec.op}_${this.#counter++}`, dtype, shape, this.#insideOperation === true),
    );
    this.nodes.push({
      op: spec.op,
      domain: spec.domain ?? "",
      inputs: spec.inputs.map((input) => (input === null ? null : (this.#substitutes.get(input) ?? input))),
      outputs,
      attributes: spec.attributes ?? {},
    });
    return outputs;
  }

  /** {@link Graph.node} for the usual case of one output. */
  node1(spec: NodeSpec): Tensor {
    return this.node(spec)[0]!;
  }

  /**
   * Runs `build`, which appends nodes, and records its result as one operation with its own gradient rule. Operations
   * inside `build` are not recorded: their part in the gradient is the rule's business.
   */
  operation(
    label: string,
    inputs: readonly Tensor[],
    build: () => readonly Tensor[],
    gradient: GradientRule,
  ): readonly Tensor[] {
    if (this.#insideOperation !== null || this.#tape === null) return build();
    this.#insideOperation = inputs.some((input) => input.needsGradient);
    try {
      const outputs = build();
      if (this.#insideOperation) this.#tape.push({ label, inputs, outputs, gradient });
      return outputs;
    } finally {
      this.#insideOperation = null;
    }
  }

  /** {@link Graph.operation} for the usual case of one output. */
  operation1(
    label: string,
    inputs: readonly Tensor[],
    build: () => Tensor,
    gradient: (dOutput: Tensor, wanted: readonly boolean[]) => readonly (Tensor | null)[],
  ): Tensor {
    const outputs = this.operation(
      label,
      inputs,
      () => [build()],
      ([dOutput], wanted) => gradient(dOutput!, wanted),
    );
    return outputs[0]!;
  }

  /**
   * What `build` makes of `x`, made once in a forward or backward pass. Between the passes nothing is shared, or it would be
   * kept all the time. For operations and gradient rules only: no gradient flows through what is shared.
   */
  sharedInPass(x: Tensor, key: string, build: () => Tensor): Tensor {
    const made = this.#shared.get(x) ?? new Map<string, Tensor>();
    this.#shared.set(x, made);
    const known = made.get(key);
    if (known !== undefined) return known;
    const built = build();
    made.set(key, built);
    return built;
  }

  /** Whether {@link Graph.sharedInPass} has made this already. */
  isSharedInPass(x: Tensor, key: string): boolean {
    return this.#shared.get(x)?.has(key) === true;
  }

  /** Records the operations that `build` makes on a tape of their own. */
  recordOperations<T>(build: () => T): { result: T; operations: Operation[] } {
    const operations: Operation[] = [];
    const result = this.#withTape(operations, build);
    return { result, operations };
  }

  /** Runs `build` without recording: for nodes that no gradient flows through (the backward pass itself). */
  untracked<T>(build: () => T): T {
    return this.#withTape(null, build);
  }

  /** Runs `build`, whose nodes read other tensors of the same values in place of some. Gradient rules see the originals. */
  substituting<T>(substitutes: ReadonlyMap<Tensor, Tensor>, build: () => T): T {
    const saved = this.#substitutes;
    this.#substitutes = new Map([...saved, ...substitutes]);
    try {
      return build();
    } finally {
      this.#substitutes = saved;
    }
  }

  /** The operations recorded so far, in order. */
  get operations(): readonly Operation[] {
    return this.#tape ?? [];
  }

  #withTape<T>(tape: Operation[] | null, build: () => T): T {
    const saved = { tape: this.#tape, inside: this.#insideOperation, shared: this.#shared };
    this.#tape = tape;
    this.#insideOperation = null;
    this.#shared = new Map();
    try {
      return build();
    } finally {
      this.#tape = saved.tape;
      this.#insideOperation = saved.inside;
      this.#shared = saved.shared;
    }
  }

  record(operation: Operation): void {
    this.#tape?.push(operation);
  }

  #tensor(name: string, dtype: ElementType, shape: Shape, needsGradient: boolean): Tensor {
    if (this.#names.has(name)) throw internalError(`two tensors named ${name} in one graph`);
    this.#names.add(name);
    return { name, dtype, shape: [...shape], needsGradient };
  }
}

function encodeConstant(values: readonly number[], dtype: ElementType): Uint8Array {
  switch (dtype) {
    case "float32":
      return new Uint8Array(Float32Array.from(values).buffer);
    case "int64":
      return new Uint8Array(BigInt64Array.from(values, (value) => BigInt(value)).buffer);
    case "int32":
      return new Uint8Array(Int32Array.from(values).buffer);
    case "bool":
      return Uint8Array.from(values, (value) => (value ? 1 : 0));
    default:
      throw internalError(`no constants of type ${dtype} are written (make a float32 one and cast it)`);
  }
}
