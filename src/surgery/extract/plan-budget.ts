/** Plans a copy whose modules get ranks of their own, so that it is as good as its size allows. */
import type { Adapter, Component } from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";
import { resizedMetadata } from "../common/resized-metadata.js";
import { type BudgetModule, ranksForSize, SIZE_TOLERANCE } from "../common/size-budget.js";
import { sizeLabel } from "../common/size-label.js";
import type { ModuleProgressOptions } from "../svd/run-jobs.js";
import { bytesPerRank, type CopyContents, copyContents } from "./copy-contents.js";
import { copyFiles, type ExtractFile, isFolderCopy } from "./copy-files.js";
import { nameFromPattern } from "./output-name.js";
import {
  chooseRule,
  copyPath,
  distinctAlphas,
  type ExtractOptions,
  type ExtractPlan,
  planNotes,
  stemOf,
} from "./plan-extract.js";
import { measureEnergy, type RankWorth } from "./prefix-worth.js";
import { type RankCandidates, rankCandidates } from "./rank-candidates.js";

/** The size of a copy, header included: in bytes, or as a share (above 0, below 1) of its parent's. */
export type Budget = { readonly bytes: number } | { readonly share: number };

export interface BudgetOptions extends Omit<ExtractOptions, "componentRanks">, ModuleProgressOptions {
  /** Measures what the ranks are worth, once the size is known to be possible. Default: {@link measureEnergy}. */
  readonly measureWorth?: MeasureWorth;
}

/**
 * Measures what the ranks of the modules are worth.
 *
 * @param reference - by module: its rank where all have the largest common one that fits; the choice will be near it
 */
export type MeasureWorth = (
  candidates: readonly RankCandidates[],
  reference: readonly number[],
) => Promise<RankWorth>;

/** How the ranks of a copy were chosen, and what they are. */
export interface MixedRanks {
  readonly budgetBytes: number;
  readonly benefit: RankWorth["benefit"];
  /** Share of the full ranks' energy; null where something else was measured. */
  readonly kept: number | null;
  /** The largest copy with one rank for all modules that is no larger; null where every one is. */
  readonly uniform: {
    readonly rank: number;
    readonly sizeBytes: number;
    readonly kept: number | null;
  } | null;
  /** Every module of the parent, in its order. */
  readonly modules: readonly MixedModule[];
}

export interface MixedModule {
  readonly name: string;
  readonly component: Component;
  readonly maxRank: number;
  /** 0: left out of the copy. */
  readonly rank: number;
  /** Share of its full rank's energy; null where that is nothing, or something else was measured. */
  readonly kept: number | null;
  /** Both factors in the copy. */
  readonly sizeBytes: number;
}

/**
 * Plans a copy of a nested adapter in which each module has a rank of its own, chosen so that together they are worth the
 * most within the size. Each module is a prefix of its parent, with the alpha that gives it the strength that it was
 * trained with at its rank.
 *
 * Measured by energy, every module keeps at least its lowest rank unless even that is too large for the size: how much a
 * weight changes says little about how much the model needs it. Measured on data, and where it adds nothing at all, a
 * module may be left out; loaders then leave the base model's weights as they are. (In PEFT's dialect none is.)
 *
 * The copy is no larger than the budget, and within 2 % of it: what no component is worth is spent on those whose worth is
 * least below nothing, for a worth is measured and a size is asked for. It is smaller only where the next component takes more
 * than what is left, or where none that is left does anything; a note says so.
 *
 * @throws {DyloraError} `E_USAGE` for a size that no copy can have; `E_INCOMPATIBLE` as `planExtract`; `E_READ`,
 *   `E_INTERRUPTED`; `E_FORMAT` for factors that are not finite
 */
export async function planBudgetExtract(
  parent: Adapter,
  budget: Budget,
  options: BudgetOptions = {},
): Promise<ExtractPlan> {
  const subject = `extract ${parent.path}`;
  const { dylora, maxRank } = parent;
  const { alphaRule, source } = chooseRule(parent, options.alphaRule, subject);
  const { dtype = null, hashes = true, date = new Date() } = options;
  const rules = { alphaRule, unit: dylora.unit ?? 1, dtype };
  const budgetBytes = bytesOf(budget, parent, subject);
  const candidates = rankCandidates(parent, alphaRule);
  const stem = options.stem ?? stemOf(parent.path);
  const missing = "every module has a rank of its own";
  const values = { stem, budget: budgetLabel(budget), rank: { missing }, alpha: { missing } };
  const title = nameFromPattern(options.name ?? "{stem}-{budget}", values, subject);
  const path = copyPath(parent, options.outDir, title);
  const planCopy = (ranks: readonly number[], benefit: RankWorth["benefit"]) => {
    const copy = copyContents(parent, (_, index) => ranks[index]!, rules);
    const metadata = resizedMetadata(parent.metadata, {
      modules: copy.modules.map(({ module, rank, alpha }) => ({ kind: module.kind, rank, alpha })),
      parentRank: maxRank,
      operation: {
        name: "extract",
        by: "size",
        targetBytes: budgetBytes,
        benefit,
        alphaRule,
        ranks: countRanks(ranks),
      },
      nested: false,
      title,
      date,
      hashes,
    });
    const files = copyFiles(parent, copy, path, metadata, hashes);
    return { copy, files, sizeBytes: files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) };
  };
  const sizeFor = (benefit: RankWorth["benefit"]) => (ranks: readonly number[]) =>
    planCopy(ranks, benefit).sizeBytes;

  checkPossible(parent, candidates, { budgetBytes, sizeOf: sizeFor("energy"), subject });
  const uniform = largestUniform(candidates, budgetBytes, sizeFor("energy"));
  const worth = await (options.measureWorth?.(candidates, uniform?.ranks ?? lowestRanks(candidates)) ??
    measureEnergy(parent, candidates, options));
  const sizes = { budgetBytes, sizeOf: sizeFor(worth.benefit), dtype };
  const ranks = chooseRanks(parent, candidates, worth, { ...sizes, subject });
  const { copy, files, sizeBytes } = planCopy(ranks, worth.benefit);
  const mixed = describeRanks(candidates, worth, ranks, { budgetBytes, dtype, uniform });
  return {
    parent,
    maxRank,
    unit: rules.unit,
    alphaRule,
    alphaRuleSource: source,
    notes: [
      ...planNotes(
        parent,
        [...new Set(ranks)].filter((rank) => rank > 0),
        alphaRule,
        source,
      ),
      ...budgetNotes(parent, mixed),
      ...shortfallNotes(candidates, worth, mixed, sizeBytes),
    ],
    hashes,
    dtype,
    outputs: [outputOf({ copy, files, sizeBytes, path, mixed })],
  };
}

function outputOf(planned: {
  copy: CopyContents;
  files: readonly ExtractFile[];
  sizeBytes: number;
  path: string;
  mixed: MixedRanks;
}): ExtractPlan["outputs"][number] {
  const { copy, files, sizeBytes, path, mixed } = planned;
  return {
    rank: Math.max(...mixed.modules.map(({ rank }) => rank)),
    mixed,
    alphas: distinctAlphas(copy.modules),
    path,
    sizeBytes,
    files,
    wholeModules: copy.modules.filter(({ module, rank }) => rank === module.rank).length,
  };
}

interface SizeRules {
  readonly budgetBytes: number;
  readonly sizeOf: (ranks: readonly number[]) => number;
  readonly dtype: ExtractPlan["dtype"];
}

function chooseRanks(
  parent: Adapter,
  candidates: readonly RankCandidates[],
  worth: RankWorth,
  { budgetBytes: target, sizeOf, dtype, subject }: SizeRules & { subject: string },
): number[] {
  const isFolder = isFolderCopy(parent);
  const modules = candidates.map(({ module, ranks }, i): BudgetModule => {
    const values = worth.values[i]!;
    const isIdle = !isFolder && values.every((value) => value === 0);
    return { ranks: isIdle ? [] : ranks, values, bytesPerRank: bytesPerRank(module, { dtype }) };
  });
  const choose = (lowest: "first" | "none") => ranksForSize(modules, { target, sizeOf, lowest });
  const ranks =
    (worth.benefit === "energy" || isFolder ? choose("first") : null) ?? (isFolder ? null : choose("none"));
  if (ranks?.some((rank) => rank > 0)) return ranks;
  throw usage(
    `${subject}: no module that fits into ${target} bytes is worth anything, by ${worth.benefit}`,
    "Choose a larger --budget.",
  );
}

/** Fails where no copy can have the size, whatever its ranks are worth. */
function checkPossible(
  parent: Adapter,
  candidates: readonly RankCandidates[],
  { budgetBytes, sizeOf, subject }: Omit<SizeRules, "dtype"> & { subject: string },
): void {
  const fullBytes = sizeOf(candidates.map(({ module }) => module.rank));
  if (budgetBytes >= fullBytes) {
    throw usage(
      `${subject}: the budget of ${budgetBytes} bytes is no smaller than the whole, which takes ${fullBytes}`,
      "Choose a smaller --budget; the whole file needs no extraction.",
    );
  }
  const lowest = lowestRanks(candidates);
  const alone = (i: number) => sizeOf(lowest.map((rank, j) => (i === j ? rank : 0)));
  const smallest = isFolderCopy(parent) ? sizeOf(lowest) : Math.min(...lowest.map((_, i) => alone(i)));
  if (budgetBytes >= smallest) return;
  throw usage(
    `${subject}: no copy of ${budgetBytes} bytes is possible: the smallest takes ${smallest}`,
    "Choose a larger --budget.",
  );
}

function describeRanks(
  candidates: readonly RankCandidates[],
  { benefit, values }: RankWorth,
  ranks: readonly number[],
  { budgetBytes, dtype, uniform }: Omit<SizeRules, "sizeOf"> & { uniform: UniformRank | null },
): MixedRanks {
  const worthAt = (i: number, rank: number) => values[i]![candidates[i]!.ranks.indexOf(rank)] ?? 0;
  const full = candidates.map(({ module }, i) => worthAt(i, module.rank));
  const total = full.reduce((sum, value) => sum + value, 0);
  // Losses need not fall with the rank: a share of the full rank's would mean nothing.
  const isShare = benefit === "energy" && total > 0;
  const keptBy = (chosen: readonly number[]) =>
    isShare ? chosen.reduce((sum, rank, i) => sum + worthAt(i, rank), 0) / total : null;
  return {
    budgetBytes,
    benefit,
    kept: keptBy(ranks),
    uniform:
      uniform === null
        ? null
        : { rank: uniform.rank, sizeBytes: uniform.sizeBytes, kept: keptBy(uniform.ranks) },
    modules: candidates.map(({ module }, i) => ({
      name: module.name,
      component: module.component,
      maxRank: module.rank,
      rank: ranks[i]!,
      kept: isShare && full[i]! > 0 ? worthAt(i, ranks[i]!) / full[i]! : null,
      sizeBytes: ranks[i]! * bytesPerRank(module, { dtype }),
    })),
  };
}

/** One rank for all modules, or for those of a lower one their own. */
interface UniformRank {
  readonly rank: number;
  /** By module. */
  readonly ranks: readonly number[];
  readonly sizeBytes: number;
}

/** Null where every one is too large. */
function largestUniform(
  candidates: readonly RankCandidates[],
  budgetBytes: number,
  sizeOf: SizeRules["sizeOf"],
): UniformRank | null {
  const all = [...new Set(candidates.flatMap(({ ranks }) => ranks))].sort((a, b) => b - a);
  for (const rank of all) {
    const ranks = candidates.map((module) => module.ranks.findLast((own) => own <= rank) ?? 0);
    const sizeBytes = sizeOf(ranks);
    if (sizeBytes <= budgetBytes) return { rank, ranks, sizeBytes };
  }
  return null;
}

function lowestRanks(candidates: readonly RankCandidates[]): number[] {
  return candidates.map(({ ranks }) => ranks[0]!);
}

function budgetNotes({ dylora, maxRank }: Adapter, { modules, benefit }: MixedRanks): string[] {
  const notes: string[] = [];
  if (benefit === "energy") {
    notes.push(
      `Energy brings the copy close to rank ${maxRank}; where \`dylora bench\` finds a lower rank to be better, --calibrate chooses by loss.`,
    );
  }
  if (!dylora.isDylora) {
    notes.push(
      "`dylora nest` puts the components of an ordinary LoRA in order first; `dylora resize --target-size` does both.",
    );
  }
  const absent = modules.filter(({ rank }) => rank === 0).length;
  if (absent > 0) {
    notes.push(
      `Left out of the copy: ${absent} of ${modules.length} modules. Loaders leave the weights of the base model there as they are.`,
    );
  }
  return notes;
}

/** Why a copy is further below its budget than it should be. */
function shortfallNotes(
  candidates: readonly RankCandidates[],
  { values }: RankWorth,
  { modules, budgetBytes }: MixedRanks,
  sizeBytes: number,
): string[] {
  if (sizeBytes >= budgetBytes * (1 - SIZE_TOLERANCE)) return [];
  const isUseful = ({ rank }: MixedModule, i: number) => {
    const { ranks } = candidates[i]!;
    const own = values[i]![ranks.indexOf(rank)] ?? 0;
    return ranks.some((other, k) => other > rank && values[i]![k] !== own);
  };
  const reason = modules.some(isUseful)
    ? "every component that is left takes more than that"
    : "no component that is left does anything";
  return [`The copy is ${(100 * (1 - sizeBytes / budgetBytes)).toFixed(1)} % below its budget: ${reason}.`];
}

function bytesOf(budget: Budget, parent: Adapter, subject: string): number {
  if ("bytes" in budget) {
    if (Number.isSafeInteger(budget.bytes) && budget.bytes > 0) return budget.bytes;
    throw usage(`${subject}: the budget ${budget.bytes} is no whole number of bytes`, "");
  }
  if (budget.share > 0 && budget.share < 1) return Math.floor(budget.share * parent.file.sizeBytes);
  throw usage(`${subject}: the budget is a share of ${budget.share}, not between 0 and 1`, "");
}

/** `12MB`, `25percent` */
function budgetLabel(budget: Budget): string {
  if ("share" in budget) return `${Number((100 * budget.share).toPrecision(6))}percent`;
  return sizeLabel(budget.bytes);
}

function usage(message: string, advice: string): DyloraError {
  return new DyloraError("E_USAGE", message, { note: `Nothing was written. ${advice}`.trim() });
}

/** How many modules have each rank. */
function countRanks(ranks: readonly number[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const rank of ranks) counts[rank] = (counts[rank] ?? 0) + 1;
  return counts;
}
