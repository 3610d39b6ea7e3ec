/** Opens a LoRA file, or the folder of one, as a list of modules. The factors stay on the disk. */
import { statSync } from "node:fs";
import { DyloraError } from "../errors.js";
// Imported from the file itself: the whole of safetensors takes longer to load than a header to read.
import { SafetensorsFile } from "../safetensors/file.js";
import type { TensorInfo } from "../safetensors/index.js";
import { assembleModules, type ModuleWithoutAlpha } from "./assemble.js";
import type { TensorReader } from "./combined-file.js";
import { type DetectedDialect, type DialectId, detectDialect } from "./dialects/index.js";
import { type DyloraFacts, readDyloraFacts } from "./dylora-facts.js";
import { FOREIGN_METHODS, type ForeignModule, type LoraModule } from "./module.js";
import type { AdapterPart } from "./peft-folder.js";
import { decodeScalar } from "./scalar.js";

export interface OpenAdapterOptions {
  /**
   * What to do with modules that are no plain LoRA (LoHa, DoRA, …) and with tensors of unknown names: `refuse` (default)
   * throws; `keep` lists them.
   */
  readonly foreign?: "refuse" | "keep";
}

export class Adapter {
  /** As it was given: a file or a folder. */
  readonly path: string;
  /** All tensors, under the names that the modules' tensors have. */
  readonly file: TensorReader;
  /** The file, or each component's file in a folder of PEFT's. */
  readonly parts: readonly AdapterPart[];
  readonly dialect: DialectId;
  /** Empty where the file has none. */
  readonly metadata: Readonly<Record<string, string>>;
  /** In the order of the file. */
  readonly modules: readonly LoraModule[];
  /** Always empty unless opened with `foreign: "keep"`, as `unknownTensors`. */
  readonly foreignModules: readonly ForeignModule[];
  readonly unknownTensors: readonly TensorInfo[];
  /** The largest rank of all modules; 0 where there are only foreign ones. */
  readonly maxRank: number;
  readonly dylora: DyloraFacts;

  constructor(opened: OpenedFiles, content: AdapterContent) {
    this.path = opened.path;
    this.file = opened.file;
    this.parts = opened.parts;
    this.dialect = content.dialect;
    this.metadata = opened.file.header.metadata ?? {};
    this.modules = content.modules;
    this.foreignModules = content.foreignModules;
    this.unknownTensors = content.unknownTensors;
    this.maxRank = this.modules.reduce((max, { rank }) => Math.max(max, rank), 0);
    this.dylora = readDyloraFacts(this.metadata, this.maxRank);
  }

  /** Idempotent. */
  async close(): Promise<void> {
    await this.file.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

interface OpenedFiles {
  readonly path: string;
  readonly file: TensorReader;
  readonly parts: readonly AdapterPart[];
}

interface AdapterContent extends Pick<Adapter, "dialect" | "modules" | "foreignModules" | "unknownTensors"> {}

/**
 * Opens an adapter. Close it, or hold it with `await using`.
 *
 * Reads the names of kohya (SD 1.x, 2.x, SDXL), diffusers and PEFT; names of other model families are recognised and
 * named in the error.
 *
 * @param path - a file; for PEFT and diffusers also the folder that was saved
 * @throws {DyloraError} `E_NOT_FOUND`, `E_READ`; `E_FORMAT` for a damaged file or module; `E_INCOMPATIBLE` for a file
 *   that is no adapter, a dialect or a kind of module that dylora cannot work on
 */
export async function openAdapter(path: string, options: OpenAdapterOptions = {}): Promise<Adapter> {
  const files = await openFiles(path);
  try {
    return await readAdapter(files, options.foreign ?? "refuse");
  } catch (error) {
    await files.file.close();
    throw error;
  }
}

// What only diffusers' and PEFT's dialects need is loaded when it is needed: it takes as long as reading a header.

async function openFiles(path: string): Promise<OpenedFiles> {
  if (!isFolder(path)) {
    const file = await SafetensorsFile.open(path);
    return { path, file, parts: [{ folder: "", file, config: null }] };
  }
  const { openAdapterFolder } = await import("./peft-folder.js");
  const { CombinedFile } = await import("./combined-file.js");
  const parts = await openAdapterFolder(path);
  const [first] = parts;
  if (first?.folder === "") return { path, file: first.file, parts };
  const files = new Map(parts.map(({ folder, file }) => [folder, file]));
  return { path, file: new CombinedFile(path, files), parts };
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false; // Opening it as a file says why.
  }
}

async function readAdapter(files: OpenedFiles, foreign: "refuse" | "keep"): Promise<Adapter> {
  const { path, file } = files;
  const { tensors } = file.header;
  const detected = detectDialect(tensors.keys());
  if (detected === null) throw noAdapter(path, [...tensors.keys()]);
  const { dialect, roles } = detected;
  if (dialect.unsupportedNote !== null) {
    throw new DyloraError("E_INCOMPATIBLE", `open ${path}: its tensors have the names of ${dialect.title}`, {
      note: `The file was not changed. ${dialect.unsupportedNote}`,
    });
  }
  const opened = dialect.id === "peft" ? await withConfigs(files) : files;
  const { modules, foreignModules } = await readModules(opened, detected);
  const unknownTensors = [...tensors.values()].filter(({ name }) => !roles.has(name));
  if (foreign === "refuse") {
    if (foreignModules.length > 0) throw foreignError(path, foreignModules, modules.length);
    if (unknownTensors.length > 0) throw unknownError(path, unknownTensors, dialect.title);
  }
  return new Adapter(opened, { dialect: dialect.id, modules, foreignModules, unknownTensors });
}

/** A file of PEFT's that was given by its own name, with the configuration beside it. */
async function withConfigs(files: OpenedFiles): Promise<OpenedFiles> {
  const { readPeftConfig } = await import("./peft-folder.js");
  const parts = files.parts.map(async (part) => ({
    ...part,
    config: part.config ?? (await readPeftConfig(part.file.path)),
  }));
  return { ...files, parts: await Promise.all(parts) };
}

async function readModules(
  opened: OpenedFiles,
  { dialect, roles }: DetectedDialect,
): Promise<Pick<AdapterContent, "modules" | "foreignModules">> {
  const { file } = opened;
  if (dialect.id === "kohya") {
    const { modules, foreignModules } = assembleModules(file.header.tensors.values(), roles, file.path);
    return { modules: modules.map((module) => withAlpha(file, module)), foreignModules };
  }
  const { resolveDiffusersModules, resolvePeftModules } = await import("./resolve-modules.js");
  return dialect.id === "peft" ? resolvePeftModules(opened, roles) : resolveDiffusersModules(file, roles);
}

function withAlpha(file: TensorReader, module: ModuleWithoutAlpha): LoraModule {
  const { alphaTensor } = module;
  // Files from before sd-scripts had alpha behave as if alpha were the rank.
  if (alphaTensor === null) return { ...module, alpha: module.rank };
  const alpha = decodeScalar(file.readScalarSync(alphaTensor.name), alphaTensor.dtype);
  if (!Number.isFinite(alpha)) {
    throw new DyloraError("E_FORMAT", `read ${file.path}: module ${module.name} has alpha ${alpha}`, {
      note: "The file was not changed. A training run that diverged writes such files.",
    });
  }
  return { ...module, alpha };
}

function noAdapter(path: string, names: readonly string[]): DyloraError {
  const isCheckpoint = names.some((name) =>
    /^(model\.diffusion_model|cond_stage_model|first_stage_model|down_blocks)\./.test(name),
  );
  const found = names.length === 0 ? "it holds no tensors" : `its tensors (${some(names)}) are no adapter's`;
  return new DyloraError("E_INCOMPATIBLE", `open ${path}: no LoRA file: ${found}`, {
    note: isCheckpoint
      ? "It is a whole model: `dylora merge` takes it with --into, `train`, `generate` and `bench` with --pretrained_model_name_or_path."
      : "dylora reads LoRA files with the names of kohya (lora_unet_…), diffusers (unet.…lora_A.weight) and PEFT.",
  });
}

function foreignError(path: string, foreign: readonly ForeignModule[], plainCount: number): DyloraError {
  const methods = [...new Set(foreign.flatMap((module) => module.methods))].map(
    (method) => FOREIGN_METHODS[method],
  );
  const total = foreign.length + plainCount;
  return new DyloraError(
    "E_INCOMPATIBLE",
    `open ${path}: ${foreign.length} of ${total} modules are no plain LoRA but ${methods.join(", ")} ` +
      `(${some(foreign.map(({ name }) => name))})`,
    { note: "The file was not changed. dylora works on modules of a down and an up factor." },
  );
}

function unknownError(path: string, tensors: readonly TensorInfo[], dialectTitle: string): DyloraError {
  return new DyloraError(
    "E_INCOMPATIBLE",
    `open ${path}: ${tensors.length} tensors have names that are none of ${dialectTitle}'s (${some(tensors.map(({ name }) => name))})`,
    { note: "The file was not changed." },
  );
}

function some(names: readonly string[]): string {
  const shown = names.slice(0, 3).join(", ");
  return names.length > 3 ? `${shown}, …` : shown;
}
