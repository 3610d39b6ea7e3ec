/** What of an adapter a conversion can put into another dialect, and what it cannot. */
import { fitsModule, type ModuleToEncode } from "../../adapter/encode-module.js";
import { identifyModel, type ModelIdentity } from "../../adapter/identify-model.js";
import { type Adapter, FOREIGN_METHODS, type LoraModule } from "../../adapter/index.js";
import { type KnownModule, moduleOfKohyaName } from "../../adapter/module-names.js";
import { DyloraError } from "../../errors.js";
import type { TensorInfo } from "../../safetensors/index.js";

export interface SourceModule extends ModuleToEncode {
  readonly known: KnownModule;
  readonly module: LoraModule;
}

/** Something that no other dialect has a name for. */
export interface UnmappedItem {
  /** A module, or a tensor that belongs to none. */
  readonly name: string;
  /** Why: `LoHa`, `no such module in …`. */
  readonly reason: string;
  readonly tensors: readonly TensorInfo[];
}

export interface ConvertSource {
  readonly modules: readonly SourceModule[];
  readonly unmapped: readonly UnmappedItem[];
  readonly identity: ModelIdentity;
}

const NO_SUCH_MODULE = "no such module in Stable Diffusion 1.x, 2.x or SDXL";

/** @throws {DyloraError} `E_INCOMPATIBLE` where two modules of the file are for the same layer */
export function sortSource(source: Adapter): ConvertSource {
  const modules: SourceModule[] = [];
  const unmapped: UnmappedItem[] = [];
  const taken = new Map<KnownModule, string>();
  for (const module of source.modules) {
    const known = moduleOfKohyaName(module.name);
    if (known === null || !fitsModule(known, module.kind)) {
      const reason =
        known === null ? NO_SUCH_MODULE : `its kernel is not that of ${known.component}.${known.path}`;
      unmapped.push({ name: module.name, reason, tensors: tensorsOf(module) });
      continue;
    }
    const other = taken.get(known);
    if (other !== undefined) {
      throw new DyloraError(
        "E_INCOMPATIBLE",
        `convert ${source.path}: ${other} and ${module.name} are the same module, ${known.component}.${known.path}`,
        { note: "Nothing was written. Loaders differ in which one they take." },
      );
    }
    taken.set(known, module.name);
    const { kind, alpha, down, up } = module;
    modules.push({ known, module, kind, alpha, down, up });
  }
  for (const { name, methods, tensors } of source.foreignModules) {
    const reason = methods.map((method) => FOREIGN_METHODS[method]).join(", ");
    unmapped.push({ name, reason, tensors });
  }
  for (const tensor of source.unknownTensors) {
    unmapped.push({ name: tensor.name, reason: "unknown name", tensors: [tensor] });
  }
  const identified = modules.map(({ known, module }) => ({ ...module, known }));
  return { modules, unmapped, identity: identifyModel(identified, source.metadata) };
}

function tensorsOf({ down, up, alphaTensor }: LoraModule): TensorInfo[] {
  return alphaTensor === null ? [down, up] : [alphaTensor, down, up];
}
