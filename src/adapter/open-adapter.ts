/** Opens a LoRA file as a list of modules. The factors stay on the disk. */
import { DyloraError } from "../errors.js";
import { SafetensorsFile, type TensorInfo } from "../safetensors/index.js";
import { assembleModules, type ModuleWithoutAlpha } from "./assemble.js";
import { type DialectId, detectDialect } from "./dialects/index.js";
import { type DyloraFacts, readDyloraFacts } from "./dylora-facts.js";
import { FOREIGN_METHODS, type ForeignModule, type LoraModule } from "./module.js";
import { decodeScalar } from "./scalar.js";

export interface OpenAdapterOptions {
  /**
   * What to do with modules that are no plain LoRA (LoHa, DoRA, …) and with tensors of unknown names: `refuse` (default)
   * throws; `keep` lists them.
   */
  readonly foreign?: "refuse" | "keep";
}

export class Adapter {
  readonly path: string;
  readonly file: SafetensorsFile;
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

  constructor(
    file: SafetensorsFile,
    dialect: DialectId,
    modules: readonly LoraModule[],
    foreignModules: readonly ForeignModule[],
    unknownTensors: readonly TensorInfo[],
  ) {
    this.path = file.path;
    this.file = file;
    this.dialect = dialect;
    this.metadata = file.header.metadata ?? {};
    this.modules = modules;
    this.foreignModules = foreignModules;
    this.unknownTensors = unknownTensors;
    this.maxRank = modules.reduce((max, { rank }) => Math.max(max, rank), 0);
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

/**
 * Opens an adapter. Close it, or hold it with `await using`.
 *
 * Reads kohya's names (SD 1.x, 2.x and SDXL); the other dialects are recognised and named in the error.
 *
 * @throws {DyloraError} `E_NOT_FOUND`, `E_READ`; `E_FORMAT` for a damaged file or module; `E_INCOMPATIBLE` for a file
 *   that is no adapter, a dialect or a kind of module that dylora cannot work on
 */
export async function openAdapter(path: string, options: OpenAdapterOptions = {}): Promise<Adapter> {
  const file = await SafetensorsFile.open(path);
  try {
    return await readAdapter(file, options.foreign ?? "refuse");
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function readAdapter(file: SafetensorsFile, foreign: "refuse" | "keep"): Promise<Adapter> {
  const { path } = file;
  const { tensors } = file.header;
  const detected = detectDialect(tensors.keys());
  if (detected === null) throw noAdapter(path, [...tensors.keys()]);
  const { dialect, roles } = detected;
  if (dialect.unsupportedNote !== null) {
    throw new DyloraError("E_INCOMPATIBLE", `open ${path}: its tensors have the names of ${dialect.title}`, {
      note: `The file was not changed. ${dialect.unsupportedNote}`,
    });
  }
  const { modules, foreignModules } = assembleModules(tensors.values(), roles, path);
  const unknownTensors = [...tensors.values()].filter(({ name }) => !roles.has(name));
  if (foreign === "refuse") {
    if (foreignModules.length > 0) throw foreignError(path, foreignModules, modules.length);
    if (unknownTensors.length > 0) throw unknownError(path, unknownTensors, dialect.title);
  }
  const complete = await Promise.all(modules.map((module) => withAlpha(file, module)));
  return new Adapter(file, dialect.id, complete, foreignModules, unknownTensors);
}

async function withAlpha(file: SafetensorsFile, module: ModuleWithoutAlpha): Promise<LoraModule> {
  const { alphaTensor } = module;
  // Files from before sd-scripts had alpha behave as if alpha were the rank.
  if (alphaTensor === null) return { ...module, alpha: module.rank };
  const alpha = decodeScalar(await file.read(alphaTensor.name), alphaTensor.dtype);
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
      ? "It is a whole model: use it as --pretrained_model_name_or_path."
      : "dylora reads LoRA files with kohya's names (lora_unet_…, lora_te_…).",
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
    { note: "The file was not changed. dylora works on modules of lora_down, lora_up and alpha." },
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
