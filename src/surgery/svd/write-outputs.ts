/** Computes new factors module by module and writes them into all outputs as they come. */
import { mkdir, realpath } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { dirname } from "node:path";
import { type Adapter, kohyaTensorNames, type LoraModule } from "../../adapter/index.js";
import { DyloraError, internalError } from "../../errors.js";
import { existsError, throwIfAborted, writeError } from "../../io/index.js";
import {
  computeModelHash,
  decodeToFloat32,
  encodeFromFloat32,
  HashPool,
  SafetensorsWriter,
  type WritableDtype,
  type WriteResult,
} from "../../safetensors/index.js";
import { PARENT_HASH_KEY } from "../common/parent-keys.js";
import { inOrder } from "./in-order.js";
import { JobPool } from "./job-pool.js";
import type { ModuleBytes } from "./module-jobs.js";
import type { SvdOutput } from "./output-plan.js";
import { factorBytes, ModuleReader } from "./read-module.js";
import { scaleOf } from "./spectrum.js";

export interface WriteOutputsOptions {
  /** First word of the messages. */
  readonly operation: string;
  /** Rotate modules that keep their rank too. Otherwise those keep their factors as they are. */
  readonly rotateAll: boolean;
  readonly overwrite: boolean;
  readonly onProgress: ((progress: { doneModules: number; totalModules: number }) => void) | undefined;
  readonly signal: AbortSignal | undefined;
}

export interface WrittenOutputs {
  /** By output. */
  readonly files: readonly WriteResult[];
  /** SHA-256 of the parent's data. */
  readonly parentSha256: string;
  /** Of `alpha / rank · up · down`, by module in the parent's order. */
  readonly singularValues: readonly Float64Array[];
}

/** Below this, starting a thread for the hash of the parent takes longer than the hash. */
const MIN_HASH_THREAD_BYTES = 32 << 20;

/** With so many cores the threads of the job pool leave none idle, and this thread has time while they compute. */
const MAX_CORES_WITHOUT_HASH_THREAD = 2;

interface Factors {
  readonly down: Uint8Array;
  readonly up: Uint8Array;
}

/**
 * Either all outputs appear, whole and on the disk, or none. The parent is read once for its factors and once for its hash.
 *
 * @throws {DyloraError} `E_EXISTS`, `E_WRITE`, `E_READ`, `E_INTERRUPTED`; `E_FORMAT` for factors that are not finite;
 *   `E_INCOMPATIBLE` for numbers that the element type cannot hold
 */
export async function writeOutputs(
  parent: Adapter,
  outputs: readonly SvdOutput[],
  options: WriteOutputsOptions,
): Promise<WrittenOutputs> {
  const subject = `${options.operation} ${parent.path}`;
  throwIfAborted(options.signal, subject);
  await prepareTargets(parent.path, outputs, options);
  const hashPool =
    parent.file.sizeBytes >= MIN_HASH_THREAD_BYTES && availableParallelism() > MAX_CORES_WITHOUT_HASH_THREAD
      ? new HashPool(1)
      : null;
  const writers: SafetensorsWriter[] = [];
  try {
    const parentHash = computeModelHash(parent.file, hashPool?.open());
    parentHash.catch(() => undefined); // Awaited below, unless something else fails first.
    for (const { path, layout, metadata } of outputs) {
      writers.push(
        await SafetensorsWriter.create(path, layout, {
          metadata,
          overwrite: options.overwrite,
          hashes: true,
        }),
      );
    }
    const queues = outputs.map((output, i) => new OutputQueue(output, writers[i]!));
    const singularValues = await writeFactors(parent, outputs, queues, subject, options);
    const parentSha256 = await parentHash;
    throwIfAborted(options.signal, subject);
    const files = await Promise.all(
      writers.map((writer) => writer.finish({ [PARENT_HASH_KEY]: parentSha256 })),
    );
    for (const writer of writers) await writer.publish();
    return { files, parentSha256, singularValues };
  } catch (error) {
    await Promise.all(writers.map((writer) => writer.discard()));
    throw error;
  } finally {
    await hashPool?.close();
  }
}

async function writeFactors(
  parent: Adapter,
  outputs: readonly SvdOutput[],
  queues: readonly OutputQueue[],
  subject: string,
  options: WriteOutputsOptions,
): Promise<Float64Array[]> {
  await using pool = new JobPool(factorBytes(parent));
  const reader = new ModuleReader(parent);
  const singularValues: Float64Array[] = new Array(parent.modules.length);
  const order = modulesInOrder(parent, outputs[0]!);
  const results = inOrder(order, pool.concurrency, async (index) => {
    throwIfAborted(options.signal, subject);
    const module = parent.modules[index]!;
    const ranks = outputs.map((output) => output.ranks[index]!);
    const { dtype } = outputs[0]!;
    const computed = await reader.with(parent, module, (bytes) =>
      newFactors(bytes, ranks, dtype, pool, options.rotateAll),
    );
    return { index, ...computed };
  });
  let doneModules = 0;
  for (const queue of queues) await queue.writeConstants();
  for await (const { index, values, factors } of results) {
    const module = parent.modules[index]!;
    const scale = scaleOf(module);
    singularValues[index] = values.map((value) => value * scale);
    for (const [i, queue] of queues.entries()) await queue.write(module, factors[i]!);
    options.onProgress?.({ doneModules: ++doneModules, totalModules: order.length });
  }
  return singularValues;
}

/** One module's factors, by output. */
async function newFactors(
  bytes: ModuleBytes,
  ranks: readonly number[],
  dtype: WritableDtype,
  pool: JobPool,
  rotateAll: boolean,
): Promise<{ values: Float64Array; factors: Factors[] }> {
  const wanted = [...new Set(ranks)];
  const cut = wanted.filter((rank) => rotateAll || rank < bytes.rank);
  const kept =
    cut.length === wanted.length
      ? null
      : {
          down: recoded(bytes.down, bytes.downDtype, dtype),
          up: recoded(bytes.up, bytes.upDtype, dtype),
        };
  const { singularValues, factors } =
    cut.length === 0
      ? // Nothing of it is lost, but it counts in what the whole loses.
        { singularValues: await pool.run("spectrum", bytes), factors: [] }
      : await pool.run("truncate", { module: bytes, ranks: cut, dtype });
  return { values: singularValues, factors: ranks.map((rank) => factors[cut.indexOf(rank)] ?? kept!) };
}

/** The same numbers in another type; the same bytes, in memory of their own, in the same type. */
function recoded(
  bytes: Uint8Array,
  from: Parameters<typeof decodeToFloat32>[1],
  to: WritableDtype,
): Uint8Array {
  return from === to ? bytes.slice() : encodeFromFloat32(decodeToFloat32(bytes, from), to);
}

/** Indices of the modules in the order in which their tensors come in a file; it is the same in all outputs. */
function modulesInOrder({ modules }: Adapter, { layout }: SvdOutput): number[] {
  const moduleOf = new Map(modules.map(({ name }, index) => [kohyaTensorNames(name).down, index]));
  return layout.tensors.flatMap(({ name }) => moduleOf.get(name) ?? []);
}

/** One file that is being written, tensor after tensor. */
class OutputQueue {
  readonly #output: SvdOutput;
  readonly #writer: SafetensorsWriter;
  #next = 0;

  constructor(output: SvdOutput, writer: SafetensorsWriter) {
    this.#output = output;
    this.#writer = writer;
  }

  /** Writes the alphas up to the next factor. */
  async writeConstants(): Promise<void> {
    for (;;) {
      const constant = this.#output.constants.get(this.#nextName() ?? "");
      if (constant === undefined) return;
      await this.#writer.write(constant);
      this.#next++;
    }
  }

  /** Writes a module's factors, which must be the next ones. */
  async write({ name }: LoraModule, factors: Factors): Promise<void> {
    const names = kohyaTensorNames(name);
    for (const part of ["down", "up"] as const) {
      const next = this.#nextName();
      if (next !== names[part]) throw internalError(`${next} comes before ${names[part]}`);
      await this.#writer.write(factors[part]);
      this.#next++;
      await this.writeConstants();
    }
  }

  #nextName(): string | undefined {
    return this.#output.layout.tensors[this.#next]?.name;
  }
}

/** Fails before the work begins where it can be known beforehand; makes the folders. */
async function prepareTargets(
  parentPath: string,
  outputs: readonly SvdOutput[],
  { operation, overwrite }: WriteOutputsOptions,
): Promise<void> {
  const source = await realpath(parentPath);
  for (const { path } of outputs) {
    const target = await realpath(path).catch(() => null);
    if (target === source) {
      throw new DyloraError("E_EXISTS", `${operation}: ${path} is the file that is read`, {
        note: "Nothing was written. Choose another name for the output.",
      });
    }
    if (target !== null && !overwrite) throw existsError(path);
    const folder = dirname(path);
    try {
      await mkdir(folder, { recursive: true });
    } catch (cause) {
      throw writeError(folder, cause, {
        note: "Nothing was written. Choose a folder that you can write to.",
      });
    }
  }
}
