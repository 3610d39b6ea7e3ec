/** Completes the modules of the dialects whose tensors tell neither alpha nor kohya's name: diffusers and PEFT. */
import { DyloraError } from "../errors.js";
import type { TensorInfo } from "../safetensors/index.js";
import { readAdapterMetadata } from "./adapter-metadata.js";
import { type AssembledModules, assembleModules, type ModuleWithoutAlpha } from "./assemble.js";
import type { TensorReader } from "./combined-file.js";
import type { TensorRole } from "./dialects/index.js";
import { identifyModel, namingOf } from "./identify-model.js";
import { LoraConfig } from "./lora-config.js";
import type { Component, ForeignModule, LoraModule } from "./module.js";
import { kohyaNameOf, moduleAt } from "./module-names.js";
import { type AdapterPart, componentOfFolder } from "./peft-folder.js";

interface ResolvedModules {
  readonly modules: readonly LoraModule[];
  readonly foreignModules: readonly ForeignModule[];
}

/** By component; that of `null` holds for components without one of their own. */
type Configs = ReadonlyMap<Component | null, LoraConfig>;

type Roles = ReadonlyMap<string, TensorRole>;

/**
 * The modules of a file of diffusers, with the alphas that its metadata has.
 *
 * @throws {DyloraError} `E_FORMAT` where tensors and metadata contradict each other
 */
export function resolveDiffusersModules(file: TensorReader, roles: Roles): ResolvedModules {
  const configs = readAdapterMetadata(file.header.metadata ?? {}, `read ${file.path}`);
  return resolve(assembleModules(file.header.tensors.values(), roles, file.path), configs, file);
}

/**
 * The modules of PEFT's files, with the alphas of the `adapter_config.json` beside each.
 *
 * @throws {DyloraError} `E_FORMAT` where tensors and configuration contradict each other
 */
export function resolvePeftModules(
  { file, parts }: { readonly file: TensorReader; readonly parts: readonly AdapterPart[] },
  roles: Roles,
): ResolvedModules {
  const configs = new Map<Component | null, LoraConfig>();
  for (const { folder, config } of parts) {
    if (config !== null) configs.set(folder === "" ? null : (folder as Component), parseConfig(config));
  }
  const tensors = [...file.header.tensors.values()];
  const isAlone = parts.length === 1 && parts[0]?.folder === "";
  const ownRoles =
    isAlone && isSecondTextEncoder(file.path, tensors, roles) ? asSecondTextEncoder(roles) : roles;
  return resolve(assembleModules(tensors, ownRoles, file.path), configs, file);
}

function resolve(
  { modules, foreignModules }: AssembledModules,
  configs: Configs,
  { path, header }: TensorReader,
): ResolvedModules {
  const located = modules.map((module) => {
    const modulePath = pathOf(module);
    return { module, modulePath, known: moduleAt(module.component, modulePath) };
  });
  const identified = located.flatMap(({ module, known }) => (known === null ? [] : [{ ...module, known }]));
  const { family } = identifyModel(identified, header.metadata ?? {});
  return {
    modules: located.map(({ module, modulePath, known }) => ({
      ...module,
      name: known === null ? module.name : kohyaNameOf(known, namingOf(family)),
      path: modulePath,
      alpha: alphaOf(module, modulePath, configs, path),
    })),
    foreignModules,
  };
}

/** A module of these dialects is named `<component>.<path>` before it is resolved. */
function pathOf({ name, component }: ModuleWithoutAlpha): string {
  return name.slice(component.length + 1);
}

function alphaOf(module: ModuleWithoutAlpha, modulePath: string, configs: Configs, path: string): number {
  const config = configs.get(module.component) ?? configs.get(null);
  if (config === undefined) return module.rank;
  const configured = config.rankOf(modulePath);
  if (configured !== module.rank) {
    throw new DyloraError(
      "E_FORMAT",
      `read ${path}: module ${module.name} has rank ${module.rank}, and its configuration says ${configured}`,
      { note: "The file was not changed. Which alpha belongs to that rank is unknown." },
    );
  }
  return config.alphaOf(modulePath, module.rank);
}

/** Width of SDXL's second text encoder; no first one is as wide. */
const SECOND_TEXT_WIDTH = 1280;

/** PEFT's names are the same for both text encoders: the folder tells them apart, or else their width. */
function isSecondTextEncoder(path: string, tensors: readonly TensorInfo[], roles: Roles): boolean {
  const folder = componentOfFolder(path);
  if (folder !== null) return folder === "text_encoder_2";
  return tensors.some(({ name, shape }) => {
    const role = roles.get(name);
    return (
      role?.part === "down" && /\.self_attn\.[qkv]_proj$/.test(role.module) && shape[1] === SECOND_TEXT_WIDTH
    );
  });
}

function asSecondTextEncoder(roles: Roles): Roles {
  return new Map(
    [...roles].map(([name, role]) => {
      if (role.component !== "text_encoder") return [name, role];
      const module = role.module.replace(/^text_encoder\./, "text_encoder_2.");
      return [name, { ...role, component: "text_encoder_2", module }];
    }),
  );
}

function parseConfig({ path, text }: { readonly path: string; readonly text: string }): LoraConfig {
  let fields: unknown;
  try {
    fields = JSON.parse(text);
  } catch (cause) {
    throw new DyloraError("E_FORMAT", `read ${path}: it is no JSON`, {
      note: "The file was not changed.",
      cause,
    });
  }
  return new LoraConfig(fields, `read ${path}`);
}
