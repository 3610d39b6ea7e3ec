/** Everything about an extraction that can be known, checked and shown before a byte is written. */
import { basename, join } from "node:path";
import {
  type Adapter,
  type AlphaRule,
  encodeScalarAs,
  kohyaTensorNames,
  type LoraModule,
} from "../adapter/index.js";
import { DyloraError } from "../errors.js";
import {
  buildHeader,
  type DataLayout,
  elementBytes,
  HASH_PLACEHOLDERS,
  layoutData,
  type TensorInfo,
} from "../safetensors/index.js";
import { extractedAlpha } from "./alpha-rule.js";
import { extractedMetadata } from "./extracted-metadata.js";
import { type RankSelection, selectRanks } from "./select-ranks.js";

export interface ExtractOptions {
  /** Default: what the file's metadata says; without metadata the paper's rule. */
  readonly alphaRule?: AlphaRule;
  /** Where the copies go. Default: the current folder. */
  readonly outDir?: string;
  /** Name of the copies before `-r<rank>.safetensors`. Default: the parent's name. */
  readonly stem?: string;
  /** For the metadata. Default: now. */
  readonly date?: Date;
}

/** What a copy takes of one tensor of its parent: of the first `rows` rows, the first `rowBytes` bytes. */
export interface TensorPrefix {
  readonly parent: TensorInfo;
  readonly parentRows: number;
  readonly rows: number;
  readonly rowBytes: number;
}

export interface ExtractOutput {
  readonly rank: number;
  readonly path: string;
  readonly sizeBytes: number;
  readonly layout: DataLayout;
  /** Without the `sshs_` hashes. */
  readonly metadata: Readonly<Record<string, string>>;
  /** By tensor name: where its data come from. */
  readonly contents: ReadonlyMap<string, TensorPrefix | Uint8Array>;
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
  readonly outputs: readonly ExtractOutput[];
}

/**
 * Plans the extraction of lower ranks: every tensor of a copy is a prefix of its parent's, byte for byte.
 *
 * A module of a lower rank than the copy's (3x3 convolutions with a `conv_dim` of their own) is copied whole.
 *
 * @throws {DyloraError} `E_RANK` for a rank that the file does not have; `E_INCOMPATIBLE` where the file names an alpha
 *   rule that dylora does not know and none is given
 */
export function planExtract(
  parent: Adapter,
  selection: RankSelection,
  options: ExtractOptions = {},
): ExtractPlan {
  const { dylora, maxRank } = parent;
  const subject = `extract ${parent.path}`;
  const ranks = selectRanks(selection, dylora, subject);
  const unit = dylora.unit ?? 1;
  const { alphaRule, source } = chooseRule(parent, options.alphaRule, subject);
  const stem = options.stem ?? basename(parent.path).replace(/\.safetensors$/i, "");
  const date = options.date ?? new Date();
  const outputs = ranks.map((rank): ExtractOutput => {
    const title = `${stem}-r${rank}`;
    const { contents, specs, alphas } = copyContents(parent.modules, rank, alphaRule, unit);
    const layout = layoutData(specs);
    const metadata = extractedMetadata(parent.metadata, {
      rank,
      maxRank,
      unit,
      alphaRule,
      isDylora: dylora.isDylora,
      alpha: alphas.size === 1 ? [...alphas][0]! : null,
      title,
      date,
    });
    return {
      rank,
      path: join(options.outDir ?? ".", `${title}.safetensors`),
      sizeBytes: buildHeader(layout, { ...metadata, ...HASH_PLACEHOLDERS }).length + layout.dataBytes,
      layout,
      metadata,
      contents,
      wholeModules: parent.modules.filter((module) => module.rank < rank).length,
    };
  });
  return {
    parent,
    maxRank,
    unit,
    alphaRule,
    alphaRuleSource: source,
    notes: planNotes(parent, ranks, alphaRule, source),
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

function copyContents(modules: readonly LoraModule[], rank: number, alphaRule: AlphaRule, unit: number) {
  const contents = new Map<string, TensorPrefix | Uint8Array>();
  const specs: Pick<TensorInfo, "name" | "dtype" | "shape">[] = [];
  const alphas = new Set<number>();
  for (const module of modules) {
    const { down, up, alphaTensor } = module;
    const copyRank = Math.min(rank, module.rank);
    const rowBytes = down.sizeBytes / module.rank;
    contents.set(down.name, { parent: down, parentRows: module.rank, rows: copyRank, rowBytes });
    specs.push({ ...down, shape: [copyRank, ...down.shape.slice(1)] });

    const columnBytes = elementBytes(up.dtype)!;
    const rows = module.outFeatures;
    contents.set(up.name, { parent: up, parentRows: rows, rows, rowBytes: copyRank * columnBytes });
    specs.push({ ...up, shape: [module.outFeatures, copyRank, ...up.shape.slice(2)] });

    const alpha = extractedAlpha(alphaRule, { alpha: module.alpha, rank: module.rank, unit }, copyRank);
    alphas.add(alpha);
    // A parent without alpha means alpha = its rank; left out, the copy would mean its own, lower rank.
    const wantedDtype = alphaTensor?.dtype ?? down.dtype;
    const name = alphaTensor?.name ?? kohyaTensorNames(module.name).alpha;
    const encoded = encodeScalarAs(alpha, wantedDtype);
    contents.set(name, encoded.bytes);
    specs.push({ name, dtype: encoded.dtype, shape: alphaTensor?.shape ?? [] });
  }
  return { contents, specs, alphas };
}

function planNotes(
  { dylora, metadata }: Adapter,
  ranks: readonly number[],
  rule: AlphaRule,
  source: ExtractPlan["alphaRuleSource"],
): string[] {
  const notes: string[] = [];
  const assumedRule =
    source === "assumed" ? ` and ${rule === "paper" ? "the paper's alpha rule (alpha stays)" : rule}` : "";
  if (Object.keys(metadata).length === 0) {
    notes.push(`The file has no metadata: unit 1${assumedRule} are assumed.`);
  } else if (!dylora.isDylora) {
    notes.push(
      `The file does not say that it is a DyLoRA: unit 1${assumedRule} are assumed. Prefixes of an ordinary LoRA were not trained to work alone.`,
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
