/** Conversions in tests, and whether two adapters are the same bytes. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import { openAdapter, type WrittenDialect } from "../../src/adapter/index.js";
import { readHeader } from "../../src/safetensors/index.js";
import { type ConvertReport, convert, type RunConvertOptions } from "../../src/surgery/convert/convert.js";
import { planConvert } from "../../src/surgery/convert/plan.js";

interface RunOptions extends RunConvertOptions {
  readonly keepUnknown?: boolean;
}

export async function runConvert(
  from: string,
  to: WrittenDialect,
  path: string,
  options: RunOptions = {},
): Promise<ConvertReport> {
  await using source = await openAdapter(from, { foreign: "keep" });
  const { keepUnknown = false, ...rest } = options;
  return await convert(await planConvert(source, { to, path, keepUnknown }), rest);
}

/** Every file of an adapter by its place below the path. */
export async function contents(path: string): Promise<Record<string, Buffer>> {
  const entries = await readdir(path, { recursive: true, withFileTypes: true }).catch(() => null);
  if (entries === null) return { "": await readFile(path) };
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return Object.fromEntries(
    await Promise.all(files.map(async (file) => [file.slice(path.length), await readFile(file)])),
  );
}

export async function expectSame(path: string, original: string): Promise<void> {
  const [found, expected] = await Promise.all([contents(path), contents(original)]);
  expect(Object.keys(found).sort()).toEqual(Object.keys(expected).sort());
  for (const [name, bytes] of Object.entries(expected)) {
    if (found[name]!.equals(bytes)) continue;
    // Texts show where they differ.
    expect(found[name]!.toString("latin1").slice(0, 20_000)).toBe(bytes.toString("latin1").slice(0, 20_000));
    expect(found[name]!.length).toBe(bytes.length);
    expect.fail(`${name} differs in its data`);
  }
}

/** Type and shape by name. */
export const tensorList = async (path: string) =>
  Object.fromEntries(
    [...(await readHeader(path)).tensors.values()].map(({ name, dtype, shape }) => [
      name,
      `${dtype} [${shape}]`,
    ]),
  );

/** A few modules of every kind, for kohya: SD 1.x by its context width. */
export const SD1_MODULES = [
  {
    name: "lora_unet_down_blocks_1_attentions_0_proj_in",
    kind: "conv1x1",
    rank: 2,
    inFeatures: 3,
    outFeatures: 5,
  },
  {
    name: "lora_unet_down_blocks_1_attentions_0_proj_out",
    kind: "linear",
    rank: 2,
    inFeatures: 3,
    outFeatures: 5,
  },
  {
    name: "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k",
    kind: "linear",
    rank: 2,
    inFeatures: 768,
    outFeatures: 5,
  },
  {
    name: "lora_unet_up_blocks_1_attentions_2_transformer_blocks_0_attn1_to_out_0",
    kind: "linear",
    rank: 2,
    inFeatures: 3,
    outFeatures: 5,
    alpha: 8,
  },
  { name: "lora_unet_up_blocks_0_resnets_1_conv1", kind: "conv3x3", rank: 1, inFeatures: 3, outFeatures: 5 },
  {
    name: "lora_te_text_model_encoder_layers_11_mlp_fc2",
    kind: "linear",
    rank: 2,
    inFeatures: 3,
    outFeatures: 5,
  },
] as const;
