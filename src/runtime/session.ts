/** Runs lowered graphs with onnxruntime. */

import { InferenceSession, Tensor as OrtTensor } from "onnxruntime-node";
import { DyloraError, internalError } from "../errors.js";
import type { LoweredModel } from "../graph/onnx/lower.js";
import type { ElementType } from "../graph/tensor.js";
import { type DeviceName, deviceUnavailable, providerOptions } from "./device.js";

/** Numbers in the process's own memory. */
export interface HostTensor {
  readonly dtype: ElementType;
  readonly shape: readonly number[];
  readonly data: Float32Array | Uint16Array | BigInt64Array | Int32Array | Uint8Array;
}

/**
 * How a session prepares the base weights.
 *
 * - `fast`: converts them once when it is created (seconds, and a second copy in memory), for the fastest steps.
 * - `lean`: uses them as they lie in the mapped file; starts at once, needs the least memory, steps take longer.
 */
export type ExecutionMode = "fast" | "lean";

/**
 * The mode to use on a device. GPUs always get `fast`: the weights are copied to the device anyway, and not every device
 * can convert float16 weights itself.
 */
export function usableMode(device: DeviceName, wanted: ExecutionMode): ExecutionMode {
  return device === "cpu" ? wanted : "fast";
}

export interface SessionOptions {
  device: DeviceName;
  mode: ExecutionMode;
  /**
   * In fast mode, weights stay as they are stored and are converted where they are used, all but small ones. The model must be
   * lowered with `weightConversionPerUse`. Default false.
   */
  keepsWeights?: boolean | undefined;
  /** Threads of one operator on the CPU; default: onnxruntime's own choice, the number of physical cores. */
  threads?: number | undefined;
  /** Inputs that are the same in every run, by name. Default: none. */
  fixedInputs?: Readonly<Record<string, HostTensor>> | undefined;
  /** Where onnxruntime writes its profile (path prefix); default: none is taken. */
  profilePrefix?: string | undefined;
}

/** Constants up to this size are computed when a session is made, in any mode: biases, normalizations, scalars. */
const SMALL_CONSTANT_BYTES = 64 * 1024;

/** Options of onnxruntime's graph optimizer for {@link SessionOptions.keepsWeights}. */
const KEEPING_WEIGHTS = {
  constant_folding_max_output_size_in_bytes: String(SMALL_CONSTANT_BYTES),
  // It would merge the conversions of a weight in the forward and in the backward pass, and keep the result in between.
  disable_specified_optimizers: "CommonSubexpressionElimination",
};

export class Session {
  readonly device: DeviceName;
  readonly #session: InferenceSession;
  readonly #outputs: LoweredModel["outputs"];
  readonly #fixedInputs: Readonly<Record<string, OrtTensor>>;

  private constructor(session: InferenceSession, model: LoweredModel, options: SessionOptions) {
    this.#session = session;
    this.#outputs = model.outputs;
    this.#fixedInputs = toOrtTensors(options.fixedInputs ?? {});
    this.device = options.device;
  }

  /**
   * Prepares a model to run.
   *
   * @throws {DyloraError} `E_DEVICE` when the device is missing or cannot run one of the operators, `E_MEMORY` when the
   * weights do not fit
   */
  static async create(model: LoweredModel, options: SessionOptions): Promise<Session> {
    return new Session(await createOrtSession(model, options), model, options);
  }

  /**
   * One execution.
   *
   * @param feeds - a tensor for every input of the model but the fixed ones
   * @param into - where outputs are written, of exactly their shapes; the others get memory of their own. Default: all of them do.
   * Names that are no outputs are ignored.
   * @returns every output of the model, in the process's memory
   * @throws {DyloraError} `E_MEMORY` when onnxruntime cannot allocate
   */
  async run(
    feeds: Readonly<Record<string, HostTensor>>,
    into: Readonly<Record<string, HostTensor>> = {},
  ): Promise<Record<string, HostTensor>> {
    const inputs = { ...this.#fixedInputs, ...toOrtTensors(feeds) };
    const fetches = Object.fromEntries(
      [...this.#outputs.keys()].map((name) => [name, into[name] === undefined ? null : toOrt(into[name])]),
    );
    const results = await runOrt(this.#session, inputs, this.device, fetches);
    const outputs: Record<string, HostTensor> = {};
    for (const [name, { dtype }] of this.#outputs)
      outputs[name] = into[name] ?? fromOrt(results, name, dtype);
    return outputs;
  }

  /** Ends profiling; the profile lies at the prefix given to {@link Session.create}. */
  endProfiling(): void {
    this.#session.endProfiling();
  }

  async release(): Promise<void> {
    await this.#session.release();
  }
}

/**
 * An onnxruntime session with this project's settings. For {@link Session} and {@link DeviceSession}.
 *
 * @param outputLocations - where each output shall lie; default: in the process's memory
 */
export async function createOrtSession(
  model: LoweredModel,
  options: SessionOptions,
  outputLocations?: Readonly<Record<string, "cpu" | "gpu-buffer">>,
): Promise<InferenceSession> {
  const { device, mode, keepsWeights = false, threads, profilePrefix } = options;
  const { executionProviders, sessionConfig } = providerOptions(device);
  const config: Record<string, string> = { ...sessionConfig };
  if (model.dataFolder !== null) config.model_external_initializers_file_folder_path = model.dataFolder;
  // Packed copies of the weights would cost a gigabyte for SD 1.5 and make steps 6 to 8 % faster: too little for that much.
  config.disable_prepacking = "1";
  try {
    return await InferenceSession.create(model.bytes, {
      executionProviders,
      graphOptimizationLevel: mode === "lean" ? "disabled" : "basic",
      // Memory patterns need fixed shapes; the rank of a DyLoRA step changes from step to step.
      enableMemPattern: false,
      ...(outputLocations === undefined ? {} : { preferredOutputLocation: outputLocations }),
      ...(threads === undefined ? {} : { intraOpNumThreads: threads }),
      ...(profilePrefix === undefined ? {} : { enableProfiling: true, profileFilePrefix: profilePrefix }),
      // 3: errors only. onnxruntime's warnings are about its own decisions and not for the user.
      logSeverityLevel: 3,
      extra: { session: config, ...(keepsWeights ? { optimization: KEEPING_WEIGHTS } : {}) },
    });
  } catch (error) {
    throw sessionError(error, device);
  }
}

/** {@link InferenceSession.run} with this project's errors. */
export async function runOrt(
  session: InferenceSession,
  inputs: Readonly<Record<string, OrtTensor>>,
  device: DeviceName,
  fetches?: InferenceSession.NullableOnnxValueMapType,
): Promise<InferenceSession.OnnxValueMapType> {
  try {
    return await (fetches === undefined ? session.run(inputs) : session.run(inputs, fetches));
  } catch (error) {
    throw sessionError(error, device);
  }
}

export function fromOrt(
  results: InferenceSession.OnnxValueMapType,
  name: string,
  dtype: ElementType,
): HostTensor {
  const result = results[name];
  if (!(result instanceof OrtTensor)) throw internalError(`no output ${name}`);
  return { dtype, shape: result.dims, data: result.data as HostTensor["data"] };
}

export function toOrt(tensor: HostTensor): OrtTensor {
  return new OrtTensor(tensor.dtype as "float32", tensor.data as Float32Array, tensor.shape);
}

function toOrtTensors(tensors: Readonly<Record<string, HostTensor>>): Record<string, OrtTensor> {
  return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, toOrt(tensor)]));
}

function sessionError(error: unknown, device: DeviceName): DyloraError {
  const message = error instanceof Error ? error.message : String(error);
  if (/bad_alloc|failed to allocate|out of memory|Available memory/i.test(message)) {
    return new DyloraError("E_MEMORY", `onnxruntime could not allocate memory on ${device}: ${message}`, {
      note: "Files are untouched. Lower --resolution or --train_batch_size, or use --execution_mode lean.",
      cause: error,
    });
  }
  if (device !== "cpu") return deviceUnavailable(device, error);
  return new DyloraError("E_INTERNAL", `onnxruntime failed: ${message}`, {
    note: "This is a defect of dylora, not of your input: please report it with the command you ran.",
    cause: error,
  });
}

/** A float32 tensor. */
export function float32(data: Float32Array, shape: readonly number[]): HostTensor {
  return { dtype: "float32", shape, data };
}

/** An int64 tensor from whole numbers. */
export function int64(values: readonly number[], shape: readonly number[]): HostTensor {
  return { dtype: "int64", shape, data: BigInt64Array.from(values, (value) => BigInt(value)) };
}
