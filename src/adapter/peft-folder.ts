/**
 * PEFT's folders: `adapter_model.safetensors` with `adapter_config.json`, or one such folder for each component of a
 * pipeline (`unet`, `text_encoder`, `text_encoder_2`), as PEFT's and diffusers' training scripts write them.
 */
import { readFile, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { DyloraError } from "../errors.js";
import { readError, systemErrorCode } from "../io/index.js";
import { SafetensorsFile } from "../safetensors/index.js";
import { COMPONENTS, type Component } from "./module.js";

export const PEFT_WEIGHTS = "adapter_model.safetensors";
export const PEFT_CONFIG = "adapter_config.json";

/** What diffusers names the file when it is given a folder. */
export const DIFFUSERS_WEIGHTS = "pytorch_lora_weights.safetensors";

/** Far more than any: the names of a thousand modules take 100 kB. */
const MAX_CONFIG_BYTES = 16 << 20;

/** One file of an adapter. */
export interface AdapterPart {
  /** Below the adapter's folder: the name of a component, or "" where the file is the adapter's only one. */
  readonly folder: string;
  readonly file: SafetensorsFile;
  /** The `adapter_config.json` beside it; null where the dialect has none. */
  readonly config: { readonly path: string; readonly text: string } | null;
}

/**
 * Opens the files in a folder.
 *
 * @throws {DyloraError} `E_NOT_FOUND` for a folder without an adapter, or with a part of one; otherwise as
 *   `SafetensorsFile.open`
 */
export async function openAdapterFolder(path: string): Promise<AdapterPart[]> {
  if (await exists(join(path, PEFT_WEIGHTS))) return [await openPeftPart(path, "")];
  const folders: Component[] = [];
  for (const component of COMPONENTS) {
    if (await exists(join(path, component, PEFT_WEIGHTS))) folders.push(component);
  }
  if (folders.length === 0) {
    const weights = join(path, DIFFUSERS_WEIGHTS);
    if (!(await exists(weights))) throw await noAdapterFolder(path);
    return [{ folder: "", file: await SafetensorsFile.open(weights), config: null }];
  }
  const parts: AdapterPart[] = [];
  try {
    for (const folder of folders) parts.push(await openPeftPart(join(path, folder), folder));
    return parts;
  } catch (error) {
    await Promise.all(parts.map(({ file }) => file.close()));
    throw error;
  }
}

/** The configuration beside a PEFT file that was opened by its own name. */
export async function readPeftConfig(weightsPath: string): Promise<AdapterPart["config"]> {
  const path = join(dirname(weightsPath), PEFT_CONFIG);
  try {
    const { size } = await stat(path);
    if (size > MAX_CONFIG_BYTES) {
      throw new DyloraError(
        "E_FORMAT",
        `read ${path}: it has ${size} bytes, and no adapter's settings take that many`,
      );
    }
    return { path, text: await readFile(path, "utf8") };
  } catch (cause) {
    if (systemErrorCode(cause) !== "ENOENT") throw readError(path, cause);
    throw new DyloraError("E_NOT_FOUND", `open ${weightsPath}: there is no ${PEFT_CONFIG} beside it`, {
      note: "PEFT keeps the alpha there, and without it the adapter's strength is unknown. Copy the whole folder.",
      cause,
    });
  }
}

/** The component that a folder is named after, if it is one. */
export function componentOfFolder(weightsPath: string): Component | null {
  const name = basename(dirname(weightsPath));
  return COMPONENTS.find((component) => component === name) ?? null;
}

async function openPeftPart(folderPath: string, folder: string): Promise<AdapterPart> {
  const weightsPath = join(folderPath, PEFT_WEIGHTS);
  const config = await readPeftConfig(weightsPath);
  return { folder, file: await SafetensorsFile.open(weightsPath), config };
}

async function noAdapterFolder(path: string): Promise<DyloraError> {
  const message = `open ${path}: it is a folder without ${PEFT_WEIGHTS} or ${DIFFUSERS_WEIGHTS}`;
  const isPickle = await exists(join(path, "adapter_model.bin"));
  return new DyloraError("E_NOT_FOUND", message, {
    note: isPickle
      ? "Its adapter_model.bin is a pickle, which can run code when loaded. Save the adapter again with safetensors."
      : "Give a LoRA file, or the folder that PEFT or diffusers saved an adapter in.",
  });
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null)) !== null;
}
