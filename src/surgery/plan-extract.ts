/** Everything about an extraction that can be known, checked and shown before a byte is written. */
import { basename, join } from "node:path";
import { type Adapter, type AlphaRule, encodeScalarAs, kohyaTensorNames } from "../adapter/index.js";
import { DyloraError } from "../errors.js";
import { type Dtype, elementBytes, type TensorInfo, type TensorSpec } from "../safetensors/index.js";
import { extractedAlpha } from "./alpha-rule.js";
import type { CopyDtype } from "./cast-values.js";
import {
  type GroupRanks,
  RANK_GROUPS,
  type RankGroup,
  rankGroup,
  selectGroupRanks,
} from "./component-ranks.js";
import { type CopiedModule, copyFiles, type ExtractFile, isFolderCopy } from "./extract-files.js";
import { extractedMetadata } from "./extracted-metadata.js";
import { checkNamesDiffer, type NameValues, nameFromPattern } from "./output-name.js";
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

/** What a copy takes of one tensor of its parent: of the first `rows` rows, the first `rowBytes` bytes. */
export interface TensorPrefix {
  readonly parent: TensorInfo;
  readonly parentRows: number;
  /** What the copy has it in: the parent's type, or the one that it is converted to. */
  readonly dtype: Dtype;
  readonly rows: number;
  /** In `dtype`. */
  readonly rowBytes: number;
}

export interface ExtractOutput {
  /** The larger one where components have ranks of their own. */
  readonly rank: number;
  /** Only where they were chosen by component. */
  readonly componentRanks?: GroupRanks;
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
  const stem = options.stem ?? basename(parent.path).replace(/\.safetensors$/i, "");
  const { date = new Date(), hashes = true, dtype = null } = options;
  const outputs = ranks.map((groupRanks): ExtractOutput => {
    const rank = Math.max(...Object.values(groupRanks));
    const { components, ...copy } = copyContents(parent, groupRanks, { alphaRule, unit, dtype });
    const alphas = [...new Set(Object.values(components).flatMap((facts) => facts.alphas))].sort(
      (a, b) => a - b,
    );
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
    const path = join(options.outDir ?? ".", isFolderCopy(parent) ? title : `${title}.safetensors`);
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

function chooseRule(
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

interface CopyRules {
  readonly alphaRule: AlphaRule;
  readonly unit: number;
  readonly dtype: CopyDtype | null;
}

function copyContents(
  { dialect, modules }: Adapter,
  ranks: GroupRanks,
  { alphaRule, unit, dtype }: CopyRules,
) {
  const contents = new Map<string, TensorPrefix | Uint8Array>();
  const specs: TensorSpec[] = [];
  const copied: CopiedModule[] = [];
  const components: Partial<Record<RankGroup, { rank: number; alphas: number[] }>> = {};
  for (const module of modules) {
    const { down, up, alphaTensor } = module;
    const group = rankGroup(module.component);
    const copyRank = Math.min(ranks[group]!, module.rank);
    const downDtype = dtype ?? down.dtype;
    const downRowElements = down.shape.slice(1).reduce((a, b) => a * b, 1);
    contents.set(down.name, {
      parent: down,
      parentRows: module.rank,
      dtype: downDtype,
      rows: copyRank,
      rowBytes: downRowElements * elementBytes(downDtype)!,
    });
    specs.push({ name: down.name, dtype: downDtype, shape: [copyRank, ...down.shape.slice(1)] });

    const upDtype = dtype ?? up.dtype;
    const rows = module.outFeatures;
    contents.set(up.name, {
      parent: up,
      parentRows: rows,
      dtype: upDtype,
      rows,
      rowBytes: copyRank * elementBytes(upDtype)!,
    });
    specs.push({ name: up.name, dtype: upDtype, shape: [rows, copyRank, ...up.shape.slice(2)] });

    const alpha = extractedAlpha(alphaRule, { alpha: module.alpha, rank: module.rank, unit }, copyRank);
    components[group] ??= { rank: 0, alphas: [] };
    const facts = components[group];
    facts.rank = Math.max(facts.rank, copyRank);
    if (!facts.alphas.includes(alpha)) facts.alphas.push(alpha);
    copied.push({ module, rank: copyRank, alpha });
    // The other dialects keep alphas elsewhere, see extract-files.ts.
    if (dialect !== "kohya") continue;
    // A parent without alpha means alpha = its rank; left out, the copy would mean its own, lower rank.
    const wantedDtype = dtype ?? alphaTensor?.dtype ?? down.dtype;
    const name = alphaTensor?.name ?? kohyaTensorNames(module.name).alpha;
    const encoded = encodeScalarAs(alpha, wantedDtype);
    contents.set(name, encoded.bytes);
    specs.push({ name, dtype: encoded.dtype, shape: alphaTensor?.shape ?? [] });
  }
  return { contents, specs, modules: copied, components };
}

function planNotes(
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
