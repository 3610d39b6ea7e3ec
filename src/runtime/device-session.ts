/** Sessions whose tensors stay in the memory of the device between runs. */

import type { InferenceSession, Tensor as OrtTensor } from "onnxruntime-node";
import { internalError } from "../errors.js";
import { Graph } from "../graph/graph.js";
import { type LoweredModel, lowerToOnnx } from "../graph/onnx/lower.js";
import type { ElementType } from "../graph/tensor.js";
import type { DeviceName } from "./device.js";
import { createOrtSession, fromOrt, type HostTensor, runOrt, type SessionOptions, toOrt } from "./session.js";

/** Devices whose memory tensors can stay in (onnxruntime-node 1.30). */
export type ResidentDevice = Extract<DeviceName, "webgpu">;

/**
 * Numbers in the memory of a device. Only a {@link DeviceSession} makes and takes them: onnxruntime would read the handle of
 * such a tensor as if it were numbers of a session on the CPU, and reading it in JavaScript ends the process.
 */
export class DeviceTensor {
  readonly dtype: ElementType;
  readonly shape: readonly number[];

  constructor(tensor: OrtTensor, dtype: ElementType) {
    this.dtype = dtype;
    this.shape = tensor.dims;
    handles.set(this, tensor);
  }

  /** Gives the memory back. Garbage collection knows nothing of it. */
  dispose(): void {
    handles.get(this)?.dispose();
    handles.delete(this);
  }
}

/** Out of reach of everything that does not know what device they belong to. */
const handles = new WeakMap<DeviceTensor, OrtTensor>();

export interface DeviceResults {
  readonly host: Readonly<Record<string, HostTensor>>;
  readonly device: Readonly<Record<string, DeviceTensor>>;
}

export class DeviceSession {
  readonly #session: InferenceSession;
  readonly #outputs: LoweredModel["outputs"];
  readonly #onHost: ReadonlySet<string>;

  private constructor(session: InferenceSession, model: LoweredModel, onHost: ReadonlySet<string>) {
    this.#session = session;
    this.#outputs = model.outputs;
    this.#onHost = onHost;
  }

  /**
   * Like {@link Session.create}.
   *
   * @param options.onHost - the outputs that are read by the process; all others stay on the device
   */
  static async create(
    model: LoweredModel,
    options: SessionOptions & { device: ResidentDevice; onHost: readonly string[] },
  ): Promise<DeviceSession> {
    const onHost = new Set(options.onHost);
    const locations = [...model.outputs.keys()].map(
      (name) => [name, onHost.has(name) ? "cpu" : "gpu-buffer"] as const,
    );
    const session = await createOrtSession(model, options, Object.fromEntries(locations));
    return new DeviceSession(session, model, onHost);
  }

  /**
   * One execution.
   *
   * @param feeds - a tensor for every input; those in the process's memory are copied to the device
   * @returns the outputs; who gets device tensors disposes of them
   * @throws {DyloraError} `E_MEMORY` when onnxruntime cannot allocate
   */
  async run(feeds: Readonly<Record<string, HostTensor | DeviceTensor>>): Promise<DeviceResults> {
    const inputs: Record<string, OrtTensor> = {};
    for (const [name, tensor] of Object.entries(feeds)) inputs[name] = ortOf(tensor);
    const results = await runOrt(this.#session, inputs, "webgpu");
    const host: Record<string, HostTensor> = {};
    const device: Record<string, DeviceTensor> = {};
    for (const [name, { dtype }] of this.#outputs) {
      if (this.#onHost.has(name)) host[name] = fromOrt(results, name, dtype);
      else device[name] = new DeviceTensor(results[name] as OrtTensor, dtype);
    }
    return { host, device };
  }

  async release(): Promise<void> {
    await this.#session.release();
  }
}

function ortOf(tensor: HostTensor | DeviceTensor): OrtTensor {
  if (!(tensor instanceof DeviceTensor)) return toOrt(tensor);
  const handle = handles.get(tensor);
  if (handle === undefined) throw internalError("a device tensor was used after it was disposed of");
  return handle;
}

/** Reads float32 matrices from a device. */
export async function createReader(
  device: ResidentDevice,
): Promise<{ read(tensor: DeviceTensor): Promise<Float32Array>; release(): Promise<void> }> {
  const graph = new Graph();
  // onnxruntime copies to the process's memory what a session there has as its output, and only that.
  const model = lowerToOnnx(graph, { y: graph.input("x", "float32", ["rows", "columns"]) });
  const session = await DeviceSession.create(model, { device, mode: "fast", onHost: ["y"] });
  return {
    read: async (x) => (await session.run({ x })).host.y!.data as Float32Array,
    release: () => session.release(),
  };
}
