/** Merges in tests, of files by their paths. */
import { readFile } from "node:fs/promises";
import { expect } from "vitest";
import { openAdapter } from "../../src/adapter/index.js";
import { parseBlockWeights } from "../../src/surgery/merge/block-weights.js";
import { type MergeOptions, type MergeReport, planMerge, runMerge } from "../../src/surgery/merge/merge.js";

export interface MergePart {
  readonly path: string;
  readonly ratio: number;
  readonly blockWeights?: string;
}

export async function mergeFiles(
  parts: readonly MergePart[],
  options: MergeOptions & { overwrite?: boolean; signal?: AbortSignal },
): Promise<MergeReport> {
  const adapters = await Promise.all(parts.map(({ path }) => openAdapter(path)));
  try {
    const inputs = parts.map(({ ratio, blockWeights }, i) => ({
      adapter: adapters[i]!,
      ratio,
      blockWeights: blockWeights === undefined ? null : parseBlockWeights(blockWeights),
    }));
    const { overwrite, signal } = options;
    const report = await runMerge(planMerge(inputs, options), {
      ...(overwrite === undefined ? {} : { overwrite }),
      ...(signal === undefined ? {} : { signal }),
    });
    expect((await readFile(options.path)).length).toBe(report.sizeBytes);
    return report;
  } finally {
    for (const adapter of adapters) await adapter.close();
  }
}
