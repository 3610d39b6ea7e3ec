/** What a resize will write: decided, checked and measured before a byte is written. */
import { basename, join } from "node:path";
import { type Adapter, type LoraModule, parameterCount } from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";
import { elementBytes, type WritableDtype } from "../../safetensors/index.js";
import { ranksForSize } from "../common/size-budget.js";
import { sizeLabel } from "../common/size-label.js";
import { commonDtype, planSvdOutput, type SvdOutput } from "../svd/output-plan.js";
import { readSingularValues, type SpectrumOptions } from "../svd/spectrum.js";
import { fixedRank, type RankRule, rankByEnergy } from "./rank-rules.js";

export interface ResizeOptions extends SpectrumOptions {
  /** Where the files go, as `<stem><suffix>.safetensors`. Default: the current folder. */
  readonly outDir?: string;
  /** Default: the parent's name. */
  readonly stem?: string;
  /** The file, where there is only one rule. Default: see `outDir`. */
  readonly path?: string;
  /** Default: the type that all factors share; F32 where they differ. */
  readonly dtype?: WritableDtype;
  /** Compute singular values even where the ranks do not depend on them: `errors` of the outputs are known then. */
  readonly measure?: boolean;
  /** For the metadata. Default: now. */
  readonly date?: Date;
}

export interface ResizeOutput extends SvdOutput {
  readonly rule: RankRule;
}

export interface ResizePlan {
  readonly parent: Adapter;
  readonly dtype: WritableDtype;
  readonly outputs: readonly ResizeOutput[];
  /** By module, of `alpha / rank · up · down`; null where nobody needed them. */
  readonly singularValues: readonly Float64Array[] | null;
  /** What the user should know. Sentences. */
  readonly notes: readonly string[];
}

/**
 * Plans one file per rule. Rules that depend on singular values make this read and decompose all modules.
 *
 * A module keeps its scale alpha / rank, and so its strength: alpha shrinks with the rank. A module that keeps its rank keeps
 * its factors as they are.
 *
 * @throws {DyloraError} `E_RANK` for a rank above the file's; `E_USAGE` for a parameter that makes no sense or a size that is too
 *   small; `E_READ`, `E_INTERRUPTED`; `E_FORMAT` for factors that are not finite
 */
export async function planResize(
  parent: Adapter,
  rules: readonly RankRule[],
  options: ResizeOptions = {},
): Promise<ResizePlan> {
  const subject = `resize ${parent.path}`;
  if (rules.length === 0) throw usage(`${subject}: no rank, energy or size was given`);
  for (const rule of rules) checkRule(rule, parent, subject);
  const dtype = options.dtype ?? commonDtype(parent.modules);
  const needsValues = options.measure === true || rules.some(({ kind }) => kind !== "rank");
  const singularValues = needsValues ? await readSingularValues(parent, options) : null;

  const stem = options.stem ?? basename(parent.path).replace(/\.safetensors$/i, "");
  const date = options.date ?? new Date();
  const outputs = rules.map((rule): ResizeOutput => {
    const path =
      (rules.length === 1 ? options.path : undefined) ??
      join(options.outDir ?? ".", `${stem}${ruleSuffix(rule)}.safetensors`);
    const plan = (ranks: readonly number[]) =>
      planSvdOutput(parent, {
        path,
        dtype,
        ranks,
        operation: { name: "resize", ...ruleFacts(rule) },
        nested: false,
        title: basename(path).replace(/\.safetensors$/i, ""),
        date,
      });
    return { ...plan(chooseRanks(rule, parent, singularValues, dtype, plan, subject)), rule };
  });
  return { parent, dtype, outputs, singularValues, notes: planNotes(parent, outputs) };
}

/** `-r32`, `-r32c16`, `-sv_fro0.9`, `-50MB`. */
export function ruleSuffix(rule: RankRule): string {
  switch (rule.kind) {
    case "rank":
      return `-r${rule.rank}${rule.convRank === undefined ? "" : `c${rule.convRank}`}`;
    case "energy":
      return `-${rule.method}${rule.param}`;
    case "size":
      return `-${sizeLabel(rule.targetBytes)}`;
  }
}

function ruleFacts({ kind, ...parameters }: RankRule): Record<string, unknown> {
  return { by: kind, ...parameters };
}

function chooseRanks(
  rule: RankRule,
  { modules }: Adapter,
  singularValues: readonly Float64Array[] | null,
  dtype: WritableDtype,
  plan: (ranks: readonly number[]) => SvdOutput,
  subject: string,
): number[] {
  switch (rule.kind) {
    case "rank":
      return modules.map((module) => fixedRank(rule, module));
    case "energy":
      return modules.map((_, i) => rankByEnergy(rule, singularValues![i]!));
    case "size": {
      const budget = modules.map((module, i) => {
        const maxRank = Math.min(rule.maxRank ?? module.rank, module.rank);
        return {
          ranks: Array.from({ length: maxRank }, (_, j) => j + 1),
          values: energyOfPrefixes(singularValues![i]!),
          bytesPerRank: (parameterCount(module) / module.rank) * elementBytes(dtype)!,
        };
      });
      const ranks = ranksForSize(budget, {
        target: rule.targetBytes,
        sizeOf: (candidate) => plan(candidate).sizeBytes,
        lowest: "first",
      });
      if (ranks !== null) return ranks;
      const smallest = plan(modules.map(() => 1)).sizeBytes;
      throw usage(
        `${subject}: no file of ${rule.targetBytes} bytes is possible: with rank 1 in every module it takes ${smallest}`,
      );
    }
  }
}

/** What the first 1, 2, … components hold. */
function energyOfPrefixes(singularValues: Float64Array): Float64Array {
  let sum = 0;
  return singularValues.map((value) => {
    sum += value ** 2;
    return sum;
  });
}

function checkRule(rule: RankRule, { maxRank, modules }: Adapter, subject: string): void {
  const checkRank = (rank: number | undefined, what: string, kind?: LoraModule["kind"]) => {
    if (rank === undefined) return;
    const largest = modules.reduce(
      (max, module) => (kind === undefined || module.kind === kind ? Math.max(max, module.rank) : max),
      0,
    );
    if (Number.isSafeInteger(rank) && rank >= 1 && rank <= largest) return;
    const found = rank > largest ? `is above the largest one, ${largest}` : "is no whole number of 1 or more";
    throw new DyloraError("E_RANK", `${subject}: ${what} ${rank} ${found}`, {
      note: `Nothing was written. Choose a rank from 1 to ${largest}.`,
    });
  };
  if (maxRank === 0) throw usage(`${subject}: the file has no LoRA modules`);
  switch (rule.kind) {
    case "rank":
      checkRank(rule.rank, "rank");
      if (rule.convRank !== undefined && !modules.some(({ kind }) => kind === "conv3x3")) {
        throw usage(`${subject}: a rank for 3x3 convolutions was given, and the file has none`);
      }
      checkRank(rule.convRank, "3x3 convolution rank", "conv3x3");
      return;
    case "energy": {
      const { method, param } = rule;
      checkRank(rule.maxRank, "maximum rank");
      if (method === "sv_ratio" ? param >= 1 && Number.isFinite(param) : param > 0 && param <= 1) return;
      const expected = method === "sv_ratio" ? "a number of at least 1" : "a number above 0 and at most 1";
      throw usage(`${subject}: ${method} expects ${expected}, found ${param}`);
    }
    case "size":
      checkRank(rule.maxRank, "maximum rank");
      if (Number.isSafeInteger(rule.targetBytes) && rule.targetBytes > 0) return;
      throw usage(`${subject}: the size ${rule.targetBytes} is no whole number of bytes`);
  }
}

function planNotes({ modules, dylora }: Adapter, outputs: readonly ResizeOutput[]): string[] {
  const notes: string[] = [];
  if (dylora.isDylora && dylora.alphaRule !== "keep") {
    notes.push(
      "The file is a DyLoRA: `dylora extract` takes the ranks that were trained out of it. Here its full rank is approximated.",
    );
  }
  for (const { ranks, path } of outputs) {
    if (ranks.every((rank, i) => rank === modules[i]!.rank)) {
      notes.push(`${basename(path)} keeps every module's rank: it holds the same numbers as its parent.`);
    }
  }
  return notes;
}

function usage(message: string): DyloraError {
  return new DyloraError("E_USAGE", message, { note: "Nothing was written." });
}
