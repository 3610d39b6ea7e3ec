/**
 * `lora_adapter_metadata`: where diffusers keeps the ranks and alphas of a file whose tensors have none.
 *
 * JSON of one flat object: the fields of PEFT's `LoraConfig` of every component, each behind the component's name
 * (`unet.lora_alpha`).
 *
 * @see `LORA_ADAPTER_METADATA_KEY` in diffusers/loaders/lora_base.py
 */
import { DyloraError } from "../errors.js";
import { buildLoraConfig, type ConfiguredModule, LoraConfig, sortedJson } from "./lora-config.js";
import type { Component } from "./module.js";

export const ADAPTER_METADATA_KEY = "lora_adapter_metadata";

/**
 * The configuration of each component that has one. `null` holds what is behind no component's name: the fields of a
 * file that was saved from one model alone.
 *
 * @throws {DyloraError} `E_FORMAT`, `E_INCOMPATIBLE` as `LoraConfig`
 */
export function readAdapterMetadata(
  metadata: Readonly<Record<string, string>>,
  subject: string,
): Map<Component | null, LoraConfig> {
  const configs = new Map<Component | null, LoraConfig>();
  const text = metadata[ADAPTER_METADATA_KEY];
  if (text === undefined) return configs;
  const where = `${subject}: ${ADAPTER_METADATA_KEY}`;
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new DyloraError("E_FORMAT", `${where} is no JSON`, { note: "The file was not changed.", cause });
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    throw new DyloraError("E_FORMAT", `${where} is no JSON object`, { note: "The file was not changed." });
  }
  const fields = new Map<Component | null, Record<string, unknown>>();
  for (const [key, value] of Object.entries(parsed)) {
    const [, component, name] = /^(?:(unet|text_encoder|text_encoder_2)\.)?(.+)$/s.exec(key) ?? [];
    if (name === undefined) continue;
    const owner = (component ?? null) as Component | null;
    fields.set(owner, { ...fields.get(owner), [name]: value });
  }
  for (const [component, own] of fields) configs.set(component, new LoraConfig(own, where));
  return configs;
}

/** The text for `lora_adapter_metadata`. */
export function buildAdapterMetadata(
  modules: readonly (ConfiguredModule & { readonly component: Component })[],
): string {
  const entries = [...groupByComponent(modules)].flatMap(([component, own]) =>
    Object.entries(buildLoraConfig(own)).map(([key, value]) => [`${component}.${key}`, value] as const),
  );
  return sortedJson(Object.fromEntries(entries));
}

/** In the order of their first modules. */
export function groupByComponent<M extends { readonly component: Component }>(
  modules: readonly M[],
): Map<Component, M[]> {
  const groups = new Map<Component, M[]>();
  for (const module of modules) {
    const group = groups.get(module.component);
    if (group === undefined) groups.set(module.component, [module]);
    else group.push(module);
  }
  return groups;
}

/** Whether a text for `lora_adapter_metadata` gives each module its rank and, as float32, its alpha. */
export function adapterMetadataDescribes(
  text: string,
  modules: readonly (ConfiguredModule & { readonly component: Component })[],
): boolean {
  try {
    const configs = readAdapterMetadata({ [ADAPTER_METADATA_KEY]: text }, "check");
    return modules.every(({ component, path, rank, alpha }) => {
      const config = configs.get(component) ?? configs.get(null);
      return (
        config !== undefined &&
        config.rankOf(path) === rank &&
        Math.fround(config.alphaOf(path, rank)) === Math.fround(alpha)
      );
    });
  } catch {
    return false;
  }
}
