/** What the bytes of a file tell: layout, hashes, numbers, modules that do nothing. */
import { type Adapter, FOREIGN_METHODS, type LoraModule } from "../../adapter/index.js";
import { LEGACY_HASH_KEY, MODEL_HASH_KEY, type SafetensorsFile } from "../../safetensors/index.js";
import type { NonFiniteTensor, ScanResult } from "./scan.js";
import type { VerifyProblem } from "./verify.js";

/** SHA-256 of no bytes at all: a trainer once wrote it into every file. */
const EMPTY_HASH = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/** Data is aligned for programs that map the file into memory. */
const ALIGNMENT_BYTES = 8;

export function layoutProblems({ header }: SafetensorsFile): VerifyProblem[] {
  const excess = header.dataStartBytes % ALIGNMENT_BYTES;
  if (excess === 0) return [];
  return [
    {
      severity: "note",
      code: "unaligned",
      message: `The data begin at byte ${header.dataStartBytes}, no multiple of ${ALIGNMENT_BYTES}: some programs read such files slowly or not at all.`,
      subjects: [],
    },
  ];
}

export function hashProblems(
  metadata: Readonly<Record<string, string>>,
  { dataSha256, legacyHash }: ScanResult,
): VerifyProblem[] {
  const problems: VerifyProblem[] = [];
  const model = metadata[MODEL_HASH_KEY];
  if (model !== undefined && model !== dataSha256) {
    const cause =
      model === EMPTY_HASH
        ? "it is the hash of no data at all, which a defect of the program that wrote the file makes it"
        : "the data were changed after it was computed, or the program that wrote the file has a defect";
    problems.push({
      severity: "error",
      code: "model-hash",
      message: `${MODEL_HASH_KEY} is ${model}, but the data have ${dataSha256}: ${cause}.`,
      subjects: [MODEL_HASH_KEY],
    });
  }
  const legacy = metadata[LEGACY_HASH_KEY];
  if (legacy !== undefined && legacy !== legacyHash) {
    problems.push({
      severity: "warning",
      code: "legacy-hash",
      message: `${LEGACY_HASH_KEY} is ${legacy}; a file with this metadata has ${legacyHash}. Editing metadata with other programs does that.`,
      subjects: [LEGACY_HASH_KEY],
    });
  }
  return problems;
}

export function nonFiniteProblems(tensors: readonly NonFiniteTensor[]): VerifyProblem[] {
  const [worst] = tensors;
  if (worst === undefined) return [];
  const where = `${worst.name} has ${worst.count}, the first at index ${worst.first}`;
  const more = tensors.length === 1 ? "" : `; ${tensors.length - 1} more tensors have some`;
  return [
    {
      severity: "error",
      code: "not-finite",
      message: `Infinity or NaN: ${where}${more}. A training run that diverged, or float16 that overflowed, writes such files.`,
      subjects: tensors.map(({ name }) => name),
    },
  ];
}

export function deadModuleProblems(
  modules: readonly LoraModule[],
  liveComponents: ReadonlyMap<string, number>,
): VerifyProblem[] {
  const live = (module: LoraModule) => liveComponents.get(module.name)!;
  const dead = modules.filter((module) => live(module) === 0);
  const problems: VerifyProblem[] = [];
  if (dead.length > 0) {
    const all = dead.length === modules.length;
    problems.push({
      severity: all ? "error" : "warning",
      code: "dead-modules",
      message: all
        ? "The product of every module is zero: the file does nothing. It may have been saved before the first step."
        : `The product of ${dead.length} of ${modules.length} modules is zero: they do nothing.`,
      subjects: dead.map(({ name }) => name),
    });
  }
  const partly = modules.filter((module) => live(module) > 0 && live(module) < module.rank);
  if (partly.length > 0) {
    const zero = partly.reduce((sum, module) => sum + module.rank - live(module), 0);
    problems.push({
      severity: "note",
      code: "dead-components",
      message: `${zero} components in ${partly.length} modules are zero: a lower rank would hold the same.`,
      subjects: partly.map(({ name }) => name),
    });
  }
  return problems;
}

export function foreignProblems({ foreignModules, unknownTensors }: Adapter): VerifyProblem[] {
  const problems: VerifyProblem[] = [];
  if (foreignModules.length > 0) {
    const methods = new Set(foreignModules.flatMap((module) => module.methods));
    const titles = [...methods].map((method) => FOREIGN_METHODS[method]);
    problems.push({
      severity: "note",
      code: "foreign-modules",
      message: `${foreignModules.length} modules are no plain LoRA but ${titles.join(", ")}: only their numbers were checked.`,
      subjects: foreignModules.map(({ name }) => name),
    });
  }
  if (unknownTensors.length > 0) {
    problems.push({
      severity: "warning",
      code: "unknown-tensors",
      message: `${unknownTensors.length} tensors have names that no loader knows.`,
      subjects: unknownTensors.map(({ name }) => name),
    });
  }
  return problems;
}
