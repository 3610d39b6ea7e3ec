/** A LoRA file, ready to be measured at any of its ranks. */

import { type Adapter, openAdapter, readFactors } from "../adapter/index.js";
import type { ActiveModule, BranchFactors } from "../denoiser/factors.js";
import { downWidth, upWidth } from "../denoiser/factors.js";
import { checkAdapterFitsBase } from "../models/base-match.js";
import type { LoraTarget } from "../models/lora-targets.js";
import {
  type ExtractPlan,
  extractedAlpha,
  planExtract,
  type RankSelection,
  selectRanks,
} from "../surgery/index.js";

/** Ranks that are measured when none are named; a table of more is no longer read. */
const MOST_DEFAULT_RANKS = 8;

export interface BenchAdapter {
  readonly path: string;
  readonly maxRank: number;
  /** Ascending, the maximum included. */
  readonly ranks: readonly number[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly targets: readonly LoraTarget[];
  /** Size of the file that `extract` writes for a rank. */
  fileSizeBytes(rank: number): number;
  /** The modules at a rank, with the strength that the extracted file of that rank has in every loader. */
  activate(rank: number): ActiveModule[];
}

/**
 * Reads a file's factors into memory.
 *
 * @param allTargets - every module of the base model that can have an adapter
 * @param ranks - as the user gave them, or null for up to 8 of those that were trained
 * @throws {DyloraError} `E_RANK`, `E_INCOMPATIBLE`, `E_FORMAT`, `E_NOT_FOUND`
 */
export async function openBenchAdapter(
  path: string,
  allTargets: readonly LoraTarget[],
  ranks: readonly number[] | null,
): Promise<BenchAdapter> {
  await using adapter = await openAdapter(path);
  const { matched } = checkAdapterFitsBase(allTargets, adapter.modules);
  const factors: BranchFactors[] = [];
  for (const { module, target } of matched) {
    const { down, upT } = await readFactors(adapter.file, module);
    factors.push({ target, maxRank: module.rank, alpha: module.alpha, down, up: upT });
  }
  const wanted = selectRanks(measuredRanks(adapter, ranks), adapter.dylora, `bench ${path}`);
  const plan = planExtract(adapter, { ranks: wanted });
  const sizes = new Map(plan.outputs.map(({ rank, sizeBytes }) => [rank, sizeBytes]));
  return {
    path,
    maxRank: adapter.maxRank,
    ranks: plan.outputs.map(({ rank }) => rank),
    metadata: adapter.metadata,
    targets: matched.map(({ target }) => target),
    fileSizeBytes: (rank) => sizes.get(rank)!,
    activate: (rank) => factors.map((module) => activateAsExtracted(module, rank, plan)),
  };
}

function activateAsExtracted(
  factors: BranchFactors,
  rank: number,
  { alphaRule, unit }: Pick<ExtractPlan, "alphaRule" | "unit">,
): ActiveModule {
  const active = Math.min(rank, factors.maxRank);
  const alpha = extractedAlpha(alphaRule, { alpha: factors.alpha, rank: factors.maxRank, unit }, active);
  return { factors, rank: active, scale: alpha / active };
}

/** The maximum is always among them: the others are compared with it. */
function measuredRanks(adapter: Adapter, ranks: readonly number[] | null): RankSelection {
  const { maxRank, dylora } = adapter;
  if (ranks !== null) return { ranks: [...ranks.filter((rank) => rank > 0), maxRank] };
  if (!dylora.isDylora) return { ranks: [maxRank] };
  const all = selectRanks({ all: true }, dylora, `bench ${adapter.path}`);
  const step = Math.ceil(all.length / MOST_DEFAULT_RANKS);
  // Counted from the maximum down, so that it is one of them.
  return { ranks: all.filter((_, index) => (all.length - 1 - index) % step === 0) };
}

/** A module that a file does not have, for a graph that has a place for it. */
export function absentModule(target: LoraTarget): ActiveModule {
  const factors = {
    target,
    maxRank: 1,
    alpha: 0,
    down: new Float32Array(downWidth(target)),
    up: new Float32Array(upWidth(target)),
  };
  return { factors, rank: 0, scale: 0 };
}
