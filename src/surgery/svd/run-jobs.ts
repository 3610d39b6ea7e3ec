/** One job for every module of an adapter. */
import type { Adapter } from "../../adapter/index.js";
import { throwIfAborted } from "../../io/index.js";
import { inOrder } from "./in-order.js";
import { JobPool } from "./job-pool.js";
import type { JobResult } from "./module-jobs.js";
import { factorBytes, ModuleReader } from "./read-module.js";

export interface ModuleProgressOptions {
  /** Called after each module. */
  readonly onProgress?:
    | ((progress: { readonly doneModules: number; readonly totalModules: number }) => void)
    | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The jobs that take nothing but a module. */
type ReadingJob = "spectrum" | "prefixes";

/**
 * The results by module, in the order of `adapter.modules`. A few modules per thread are in memory at a time.
 *
 * @throws {DyloraError} `E_READ`, `E_INTERRUPTED`, and as the job
 */
export async function runOnModules<Name extends ReadingJob>(
  adapter: Adapter,
  name: Name,
  { onProgress, signal }: ModuleProgressOptions,
): Promise<JobResult<Name>[]> {
  const { modules } = adapter;
  await using pool = new JobPool(factorBytes(adapter));
  const reader = new ModuleReader(adapter);
  const found: JobResult<Name>[] = [];
  const results = inOrder(modules, pool.concurrency, async (module) => {
    throwIfAborted(signal, `read ${adapter.path}`);
    return reader.with(adapter, module, (bytes) => pool.run(name, bytes));
  });
  for await (const result of results) {
    found.push(result);
    onProgress?.({ doneModules: found.length, totalModules: modules.length });
  }
  return found;
}
