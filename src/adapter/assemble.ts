/** Tensors with roles to modules, with every check that their shapes allow. */
import { DyloraError } from "../errors.js";
import { DTYPES } from "../safetensors/dtype.js";
import type { TensorInfo } from "../safetensors/index.js";
import type { TensorRole } from "./dialects/index.js";
import type { Component, ForeignMethod, ForeignModule, LoraModule, ModuleKind } from "./module.js";

/** A module whose alpha is not read yet. */
export type ModuleWithoutAlpha = Omit<LoraModule, "alpha">;

export interface AssembledModules {
  readonly modules: readonly ModuleWithoutAlpha[];
  readonly foreignModules: readonly ForeignModule[];
}

interface Parts {
  readonly component: Component;
  readonly tensors: TensorInfo[];
  readonly methods: Set<ForeignMethod>;
  down?: TensorInfo;
  up?: TensorInfo;
  alpha?: TensorInfo;
}

/**
 * Groups tensors by module, in the order of the file.
 *
 * @param roles - what each tensor is; others are left out
 * @throws {DyloraError} `E_FORMAT` for a module with a part missing or shapes that do not fit each other;
 *   `E_INCOMPATIBLE` for element types and kernels that no LoRA of Stable Diffusion has
 */
export function assembleModules(
  tensors: Iterable<TensorInfo>,
  roles: ReadonlyMap<string, TensorRole>,
  path: string,
): AssembledModules {
  const byModule = new Map<string, Parts>();
  for (const tensor of tensors) {
    const role = roles.get(tensor.name);
    if (role === undefined) continue;
    let parts = byModule.get(role.module);
    if (parts === undefined) {
      parts = { component: role.component, tensors: [], methods: new Set() };
      byModule.set(role.module, parts);
    }
    parts.tensors.push(tensor);
    if (role.part === "foreign") {
      if (role.method !== undefined) parts.methods.add(role.method);
      continue;
    }
    const other = parts[role.part];
    if (other !== undefined) {
      throw malformed(
        `read ${path}: module ${role.module} has two ${role.part} tensors, ${other.name} and ${tensor.name}`,
      );
    }
    parts[role.part] = tensor;
  }

  const modules: ModuleWithoutAlpha[] = [];
  const foreignModules: ForeignModule[] = [];
  for (const [name, parts] of byModule) {
    if (parts.methods.size > 0) {
      const { component, methods, tensors } = parts;
      foreignModules.push({ name, component, methods: [...methods], tensors });
    } else {
      modules.push(assembleModule(name, parts, `read ${path}: module ${name}`));
    }
  }
  return { modules, foreignModules };
}

function assembleModule(name: string, parts: Parts, subject: string): ModuleWithoutAlpha {
  const { component, down, up, alpha } = parts;
  if (down === undefined || up === undefined) {
    const present = parts.tensors.map((tensor) => tensor.name).join(", ");
    throw malformed(`${subject} has no ${down === undefined ? "down" : "up"} factor, only ${present}`);
  }
  checkFactorType(down, subject);
  checkFactorType(up, subject);
  if (alpha?.shape.some((dimension) => dimension !== 1)) {
    throw malformed(`${subject}: alpha has shape ${shapeText(alpha)} instead of []`);
  }
  const kind = kindOf(down, up, subject);
  // By index, and without loops and callbacks above: for hundreds of modules, in code that has no time to get warm, iterators
  // take milliseconds.
  const rank = down.shape[0]!;
  const inFeatures = down.shape[1]!;
  const outFeatures = up.shape[0]!;
  if (rank !== up.shape[1]) {
    throw malformed(
      `${subject}: down is ${shapeText(down)} and up is ${shapeText(up)}: ranks ${rank} and ${up.shape[1]}`,
    );
  }
  if (!(rank > 0 && inFeatures > 0 && outFeatures > 0)) {
    throw malformed(`${subject}: down is ${shapeText(down)} and up is ${shapeText(up)}: a dimension of 0`);
  }
  return {
    name,
    component,
    path: null,
    kind,
    rank,
    inFeatures,
    outFeatures,
    down,
    up,
    alphaTensor: alpha ?? null,
  };
}

function checkFactorType({ name, dtype }: TensorInfo, subject: string): void {
  const { kind, bits } = DTYPES[dtype];
  if (kind === "float" && bits >= 8) return;
  throw incompatible(`${subject}: ${name} is ${dtype}, and factors are numbers like F16, BF16 or F32`);
}

function kindOf(down: TensorInfo, up: TensorInfo, subject: string): ModuleKind {
  if (up.shape.length !== 2 && !hasKernel(up, 1))
    throw malformed(`${subject}: up is ${shapeText(up)} instead of [out, rank] or [out, rank, 1, 1]`);
  if (down.shape.length === 2) return "linear";
  if (hasKernel(down, 1)) return "conv1x1";
  if (hasKernel(down, 3)) return "conv3x3";
  throw incompatible(
    `${subject}: down is ${shapeText(down)}; dylora knows linear layers and 1x1 and 3x3 convolutions`,
  );
}

function hasKernel({ shape }: TensorInfo, size: number): boolean {
  return shape.length === 4 && shape[2] === size && shape[3] === size;
}

function shapeText({ shape }: TensorInfo): string {
  return `[${shape.join(", ")}]`;
}

function malformed(message: string): DyloraError {
  return new DyloraError("E_FORMAT", message, {
    note: "The file was not changed. The tool that wrote it left something out: write it again.",
  });
}

function incompatible(message: string): DyloraError {
  return new DyloraError("E_INCOMPATIBLE", message, { note: "The file was not changed." });
}
