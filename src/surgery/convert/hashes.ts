/** The two hashes in the metadata of kohya's files, on their way through a conversion. */
import type { Adapter } from "../../adapter/index.js";
import { throwIfAborted } from "../../io/index.js";
import {
  type DataLayout,
  LEGACY_HASH_KEY,
  layoutData,
  MODEL_HASH_KEY,
  sha256Stream,
} from "../../safetensors/index.js";
import { LegacyHash } from "../../safetensors/model-hashes.js";

export const HASH_KEYS: readonly string[] = [MODEL_HASH_KEY, LEGACY_HASH_KEY];

/** Of one file of the source. */
export interface StatedHashes {
  /** Writing the file anew gives the hashes that it has. */
  readonly areRight: boolean;
  /** SHA-256 of its data. */
  readonly dataSha256: string;
}

/** Whether there are hashes to be right or wrong. */
export function hasHashes(metadata: Readonly<Record<string, string>> | null): boolean {
  return metadata !== null && HASH_KEYS.some((key) => Object.hasOwn(metadata, key));
}

/** Checks the hashes of every file of a source; null for files without. Reads those that have some. */
export async function checkHashes(
  { path, parts }: Adapter,
  signal: AbortSignal | undefined,
): Promise<(StatedHashes | null)[]> {
  const checked: (StatedHashes | null)[] = [];
  for (const { file } of parts) {
    const { metadata, tensors } = file.header;
    if (metadata === null || !hasHashes(metadata)) {
      checked.push(null);
      continue;
    }
    const layout = layoutData([...tensors.values()]);
    const legacy = new LegacyHash(layout, metadata);
    const dataSha256 = await hashData(layout, (name) => file.stream(name), {
      alsoUpdate: (bytes) => legacy.update(bytes),
      check: () => throwIfAborted(signal, `convert ${path}`),
    });
    const areRight = metadata[MODEL_HASH_KEY] === dataSha256 && metadata[LEGACY_HASH_KEY] === legacy.digest();
    checked.push({ areRight, dataSha256 });
  }
  return checked;
}

/** SHA-256 of the data as they would be written. */
export async function hashData(
  layout: DataLayout,
  read: (name: string) => AsyncIterable<Uint8Array> | Uint8Array,
  {
    alsoUpdate,
    check,
  }: { readonly alsoUpdate?: (bytes: Uint8Array) => void; readonly check?: () => void } = {},
): Promise<string> {
  const hash = sha256Stream();
  const update = async (bytes: Uint8Array) => {
    check?.();
    await hash.update(bytes);
    alsoUpdate?.(bytes);
  };
  for (const { name } of layout.tensors) {
    const data = read(name);
    if (data instanceof Uint8Array) await update(data);
    else for await (const bytes of data) await update(bytes);
  }
  return hash.digest();
}
