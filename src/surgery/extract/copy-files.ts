/** The files of an extracted copy: one, or for PEFT's dialect a folder like its parent's, ranks and alphas beside the factors. */
import { join } from "node:path";
import {
  ADAPTER_METADATA_KEY,
  adapterMetadataDescribes,
  buildAdapterMetadata,
} from "../../adapter/adapter-metadata.js";
import type { Adapter } from "../../adapter/index.js";
import { updatePeftConfig } from "../../adapter/peft-config.js";
import { PEFT_CONFIG, PEFT_WEIGHTS } from "../../adapter/peft-folder.js";
import { buildHeader, type DataLayout, HASH_PLACEHOLDERS, layoutData } from "../../safetensors/index.js";
import type { CopiedModule, CopyContents, TensorPrefix } from "./copy-contents.js";

export interface ExtractFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly layout: DataLayout;
  /** Without the `sshs_` hashes. */
  readonly metadata: Readonly<Record<string, string>>;
  /** By tensor name: where its data come from. */
  readonly contents: ReadonlyMap<string, TensorPrefix | Uint8Array>;
  /** `adapter_config.json`; null in dialects without one. */
  readonly config: { readonly path: string; readonly text: string } | null;
}

/** Whether a copy of this parent is a folder. */
export function isFolderCopy({ dialect }: Pick<Adapter, "dialect">): boolean {
  return dialect === "peft";
}

/**
 * @param path - the file, or the folder
 * @param metadata - of the file; of the first one in a folder
 */
export function copyFiles(
  parent: Adapter,
  copy: CopyContents,
  path: string,
  metadata: Readonly<Record<string, string>>,
  hashes: boolean,
): ExtractFile[] {
  if (!isFolderCopy(parent)) {
    const complete =
      parent.dialect === "diffusers" ? withAlphas(metadata, copy.modules) : withoutAlphas(metadata);
    return [copyFile(path, copy.specs, copy.contents, complete, hashes, null)];
  }
  return parent.parts.map(({ folder, file, config }, index) => {
    const prefix = folder === "" ? "" : `${folder}/`;
    const isOwn = (name: string) => name.startsWith(prefix);
    const ownName = (name: string) => name.slice(prefix.length);
    const specs = copy.specs
      .filter(({ name }) => isOwn(name))
      .map((spec) => ({ ...spec, name: ownName(spec.name) }));
    const contents = [...copy.contents].filter(([name]) => isOwn(name));
    const modules = copy.modules.filter(({ module }) => isOwn(module.down.name));
    const ownMetadata = index === 0 ? metadata : withoutHashes(file.header.metadata ?? {});
    const text = updatePeftConfig(config?.text ?? "{}", modules.map(configured));
    return copyFile(
      join(path, folder, PEFT_WEIGHTS),
      specs,
      new Map(contents.map(([name, content]) => [ownName(name), content])),
      ownMetadata,
      hashes,
      { path: join(path, folder, PEFT_CONFIG), text },
    );
  });
}

function copyFile(
  path: string,
  specs: CopyContents["specs"],
  contents: ExtractFile["contents"],
  metadata: Readonly<Record<string, string>>,
  hashes: boolean,
  config: ExtractFile["config"],
): ExtractFile {
  const layout = layoutData(specs);
  const headerBytes = buildHeader(layout, hashes ? { ...metadata, ...HASH_PLACEHOLDERS } : metadata).length;
  return { path, sizeBytes: headerBytes + layout.dataBytes, layout, metadata, contents, config };
}

/** diffusers keeps alphas in the metadata. */
function withAlphas(
  metadata: Readonly<Record<string, string>>,
  modules: readonly CopiedModule[],
): Readonly<Record<string, string>> {
  const own = modules.map((copied) => ({ ...configured(copied), component: copied.module.component }));
  const text = metadata[ADAPTER_METADATA_KEY];
  if (text !== undefined && adapterMetadataDescribes(text, own)) return metadata;
  return { ...metadata, [ADAPTER_METADATA_KEY]: buildAdapterMetadata(own) };
}

/** kohya's names have alphas of their own; those in the metadata would be the parent's. */
function withoutAlphas(metadata: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(metadata).filter(([key]) => key !== ADAPTER_METADATA_KEY));
}

function configured({ module, rank, alpha }: CopiedModule) {
  return { path: module.path ?? module.name, rank, alpha };
}

function withoutHashes(metadata: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(metadata).filter(([key]) => !(key in HASH_PLACEHOLDERS)));
}
