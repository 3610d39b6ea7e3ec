/** Everything about an extraction that can be known, checked and shown before a byte is written. */
import { basename, join } from "node:path";
import type { Adapter, AlphaRule, LoraModule } from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";
import type { CopyDtype } from "./cast-values.js";
import {
  type GroupRanks,
  RANK_GROUPS,
  type RankGroup,
  rankGroup,
  selectGroupRanks,
} from "./component-ranks.js";
import { type CopiedModule, copyContents } from "./copy-contents.js";
import { copyFiles, type ExtractFile, isFolderCopy } from "./copy-files.js";
import { type ComponentFacts, extractedMetadata } from "./copy-metadata.js";
import { checkNamesDiffer, type NameValues, nameFromPattern } from "./output-name.js";
import type { MixedRanks } from "./plan-budget.js";
import type { RankSelection } from "./select-ranks.js";

export interface ExtractOptions {
  /** Default: what the file's metadata says; without metadata the paper's rule. */
  readonly alphaRule?: AlphaRule;
  /** Where the copies go. Default: the current folder. */
  readonly outDir?: string;
  /** What `{stem}` in the name stands for. Default: the parent's name. */
  readonly stem?: string;
  /**
   * Name of the copies before `.safetensors`, with `{stem}`, `{rank}`, `{alpha}`, and where components have ranks of their
   * own `{unet}` and `{te}`. Default: `{stem}-r{rank}`; with such ranks `{stem}-unet{unet}-te{te}`.
   */
  readonly name?: string;
  /** Ranks of components, the same in every copy. Default: none, all components have the selection's. */
  readonly componentRanks?: GroupRanks;
  /** Type of the factors in the copies. Default: each tensor has its parent's, byte for byte. */
  readonly dtype?: CopyDtype;
  /** For the metadata. Default: now. */
  readonly date?: Date;
  /**
   * Write `sshs_model_hash`, `sshs_legacy_hash` and the parent's hash into the copies. Default true. On a CPU without SHA
   * instructions the hashes take longer than everything else; loaders that want them compute what is missing.
   */
  readonly hashes?: boolean;
}

export interface ExtractOutput {
  /** The largest one where components or modules have ranks of their own. */
  readonly rank: number;
  /** Only where they were chosen by component. */
  readonly componentRanks?: GroupRanks;
  /** Only where every module has a rank of its own. */
  readonly mixed?: MixedRanks;
  /** The distinct alphas of the modules, ascending, before they are rounded to their type. */
  readonly alphas: readonly number[];
  /** The file; of a parent in PEFT's dialect the folder. */
  readonly path: string;
  /** Of all files. */
  readonly sizeBytes: number;
  readonly files: readonly ExtractFile[];
  /** Modules whose own rank is lower, and which are copied whole. */
  readonly wholeModules: number;
}

export interface ExtractPlan {
  readonly parent: Adapter;
  readonly maxRank: number;
  /** 1 where the file names none. */
  readonly unit: number;
  readonly alphaRule: AlphaRule;
  /** `option`: the caller's choice; otherwise as `DyloraFacts.alphaRuleSource`. */
  readonly alphaRuleSource: "option" | "metadata" | "trainer" | "assumed";
  /** What was assumed, and what the user should know. Sentences. */
  readonly notes: readonly string[];
  readonly hashes: boolean;
  /** Null: the parent's. */
  readonly dtype: CopyDtype | null;
  readonly outputs: readonly ExtractOutput[];
}

/**
 * Plans the extraction of lower ranks: every tensor of a copy is a prefix of its parent's, byte for byte unless another
 * type is chosen.
 *
 * A module of a lower rank than the copy's (3x3 convolutions with a `conv_dim` of their own) is copied whole.
 *
 * @param selection - for every component without a rank in `componentRanks`; null keeps their full rank
 * @throws {DyloraError} `E_RANK` for a rank that the file does not have; `E_INCOMPATIBLE` where the file names an alpha
 *   rule that dylora does not know and none is given, and for a component that it does not have; `E_USAGE` for names that
 *   are none or that two copies would share
 */
export function planExtract(
  parent: Adapter,
  selection: RankSelection | null,
  options: ExtractOptions = {},
): ExtractPlan {
  const { dylora, maxRank } = parent;
  const subject = `extract ${parent.path}`;
  const { componentRanks = {} } = options;
  const isPerComponent = Object.keys(componentRanks).length > 0;
  const ranks = selectGroupRanks(parent, selection, componentRanks, subject);
  const unit = dylora.unit ?? 1;
  const { alphaRule, source } = chooseRule(parent, options.alphaRule, subject);
  const stem = options.stem ?? stemOf(parent.path);
  const { date = new Date(), hashes = true, dtype = null } = options;
  const outputs = ranks.map((groupRanks): ExtractOutput => {
    const rank = Math.max(...Object.values(groupRanks));
    const copy = copyContents(parent, (module) => copyRank(module, groupRanks), { alphaRule, unit, dtype });
    const components = componentFacts(copy.modules);
    const alphas = distinctAlphas(copy.modules);
    const pattern = options.name ?? defaultPattern(isPerComponent ? groupRanks : null);
    const title = nameFromPattern(pattern, nameValues(stem, rank, groupRanks, alphas), subject);
    const metadata = extractedMetadata(parent.metadata, {
      rank,
      maxRank,
      unit,
      alphaRule,
      isDylora: dylora.isDylora,
      alpha: alphas.length === 1 ? alphas[0]! : null,
      components,
      isPerComponent,
      title,
      date,
      hashes,
    });
    const path = copyPath(parent, options.outDir, title);
    const files = copyFiles(parent, copy, path, metadata, hashes);
    return {
      rank,
      ...(isPerComponent ? { componentRanks: groupRanks } : {}),
      alphas,
      path,
      sizeBytes: files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      files,
      wholeModules: parent.modules.filter((module) => module.rank < groupRanks[rankGroup(module.component)]!)
        .length,
    };
  });
  checkNamesDiffer(
    outputs.map(({ path }) => basename(path)),
    subject,
  );
  return {
    parent,
    maxRank,
    unit,
    alphaRule,
    alphaRuleSource: source,
    notes: planNotes(parent, distinctRanks(ranks), alphaRule, source),
    hashes,
    dtype,
    outputs,
  };
}

/** A module of a lower rank is copied whole. */
function copyRank({ component, rank }: LoraModule, ranks: GroupRanks): number {
  return Math.min(ranks[rankGroup(component)]!, rank);
}

/** Ascending. */
export function distinctAlphas(modules: readonly CopiedModule[]): number[] {
  return [...new Set(modules.map(({ alpha }) => alpha))].sort((a, b) => a - b);
}

function componentFacts(modules: readonly CopiedModule[]): Partial<Record<RankGroup, ComponentFacts>> {
  const facts: Partial<Record<RankGroup, { rank: number; alphas: number[] }>> = {};
  for (const { module, rank, alpha } of modules) {
    const group = rankGroup(module.component);
    facts[group] ??= { rank: 0, alphas: [] };
    const own = facts[group];
    own.rank = Math.max(own.rank, rank);
    if (!own.alphas.includes(alpha)) own.alphas.push(alpha);
  }
  return facts;
}

/** @throws {DyloraError} `E_INCOMPATIBLE` where the file names a rule that dylora does not know and none is given */
export function chooseRule(
  { dylora }: Adapter,
  option: AlphaRule | undefined,
  subject: string,
): { alphaRule: AlphaRule; source: ExtractPlan["alphaRuleSource"] } {
  if (option !== undefined) return { alphaRule: option, source: "option" };
  const { alphaRule, alphaRuleSource } = dylora;
  if (alphaRuleSource !== "unknown") return { alphaRule, source: alphaRuleSource };
  throw new DyloraError(
    "E_INCOMPATIBLE",
    `${subject}: its metadata cannot be followed: ${dylora.problems.join("; ")}`,
    {
      note: "Nothing was written. Choose the rule with --alpha-rule paper, sd-scripts, lycoris or keep.",
    },
  );
}

function defaultPattern(componentRanks: GroupRanks | null): string {
  if (componentRanks === null) return "{stem}-r{rank}";
  const groups = RANK_GROUPS.filter((group) => componentRanks[group] !== undefined);
  return ["{stem}", ...groups.map((group) => `${group}{${group}}`)].join("-");
}

function nameValues(
  stem: string,
  rank: number,
  groupRanks: GroupRanks,
  alphas: readonly number[],
): NameValues {
  const rankOf = (group: RankGroup) =>
    groupRanks[group]?.toString() ?? { missing: "the file has no such modules" };
  const [alpha] = alphas;
  return {
    stem,
    rank: String(rank),
    alpha:
      alphas.length === 1
        ? String(Number(alpha!.toPrecision(6)))
        : { missing: `the modules of rank ${rank} have different alphas` },
    unet: rankOf("unet"),
    te: rankOf("te"),
  };
}

function distinctRanks(ranks: readonly GroupRanks[]): number[] {
  return [...new Set(ranks.flatMap((groupRanks) => Object.values(groupRanks)))].sort((a, b) => a - b);
}

export function stemOf(path: string): string {
  return basename(path).replace(/\.safetensors$/i, "");
}

/** Of the file, or the folder. */
export function copyPath(parent: Adapter, outDir = ".", title: string): string {
  return join(outDir, isFolderCopy(parent) ? title : `${title}.safetensors`);
}

/**
 * What was assumed, and what the user should know.
 *
 * @param ranks - of all modules of all copies
 */
export function planNotes(
  { dylora, metadata }: Adapter,
  ranks: readonly number[],
  rule: AlphaRule,
  source: ExtractPlan["alphaRuleSource"],
): string[] {
  const notes: string[] = [];
  const assumed =
    source === "assumed"
      ? "unit 1 and the paper's alpha rule (alpha stays) are assumed"
      : "unit 1 is assumed";
  if (Object.keys(metadata).length === 0) {
    notes.push(`The file has no metadata: ${assumed}.`);
  } else if (!dylora.isDylora) {
    notes.push(
      `The file does not say that it is a DyLoRA: ${assumed}. Prefixes of an ordinary LoRA were not trained to work alone.`,
    );
  } else if (source === "trainer") {
    notes.push(`The file was trained with ${metadata.ss_network_module}: its alpha rule, ${rule}, is used.`);
  }
  notes.push(...dylora.problems.map((problem) => `Metadata: ${problem}.`));
  const untrained = ranks.filter((rank) => dylora.trainedRanks?.includes(rank) === false);
  if (untrained.length > 0) {
    notes.push(
      `Not among the ranks that were trained (${dylora.trainedRanks!.join(", ")}): ${untrained.join(", ")}.`,
    );
  }
  return notes;
}
