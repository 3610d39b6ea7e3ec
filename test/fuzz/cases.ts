/** Damaged and odd files that are worth keeping: each broke something once, or stands at an edge where something could. */
import type { Dtype } from "../../src/safetensors/index.js";
import { type FuzzFile, type FuzzTensor, fileBytes, withLength } from "./fuzz-file.js";

const MODULE = "lora_unet_mid_block_attentions_0_proj_in";
const OTHER = "lora_te_text_model_encoder_layers_0_mlp_fc1";

const ATTENTION = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q";

interface ModuleShapes {
  readonly name?: string;
  readonly down?: readonly number[];
  readonly up?: readonly number[];
  readonly alpha?: readonly number[];
  readonly dtype?: Dtype;
  readonly alphaDtype?: Dtype;
}

function loraModule({
  name = MODULE,
  down = [2, 4],
  up = [3, 2],
  alpha = [],
  dtype = "F16",
  alphaDtype = dtype,
}: ModuleShapes = {}): FuzzTensor[] {
  return [
    { name: `${name}.lora_down.weight`, dtype, shape: down },
    { name: `${name}.lora_up.weight`, dtype, shape: up },
    { name: `${name}.alpha`, dtype: alphaDtype, shape: alpha },
  ];
}

function adapter(tensors: readonly FuzzTensor[], metadata: FuzzFile["metadata"] = null): Buffer {
  return fileBytes({ title: "", tensors, metadata });
}

function rawHeader(text: string, data: Uint8Array = new Uint8Array()): Buffer {
  return withLength(Buffer.from(text), data);
}

/** Overwrites a tensor's data; the tensors of a case lie in their own order. */
function withData(bytes: Buffer, tensors: readonly FuzzTensor[], name: string, value: Uint8Array): Buffer {
  const header = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE(0))).toString());
  const [begin] = header[tensors.find((tensor) => tensor.name.endsWith(name))!.name].data_offsets;
  const start = 8 + Number(bytes.readBigUInt64LE(0)) + begin;
  bytes.set(value, start);
  return bytes;
}

const float32 = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer);
const plain = loraModule({ dtype: "F32" });
const withArgs = (args: string, module = "networks.dylora") =>
  adapter(plain, { ss_network_module: module, ss_network_args: args });

export const CASES: Readonly<Record<string, () => Buffer>> = {
  // Not even a header.
  "an empty file": () => Buffer.alloc(0),
  "seven bytes": () => Buffer.alloc(7),
  "a header of no bytes": () => rawHeader(""),
  "a header of spaces": () => rawHeader(" ".repeat(64)),
  "a header that is null": () => rawHeader("null"),
  "a header that is a list": () => rawHeader("[]"),
  "no tensors at all": () => rawHeader("{}"),
  "metadata and no tensors": () => rawHeader('{"__metadata__":{"ss_network_module":"networks.lora"}}'),
  "a length of 2^64 - 1": () => withLength(Buffer.from("{}"), new Uint8Array(), 2n ** 64n - 1n),
  "a length one above what follows": () => withLength(Buffer.from("{}"), new Uint8Array(), 3n),
  "values nested 10,000 deep": () => rawHeader(`{"a":${"[".repeat(10_000)}`),
  "an unknown field nested 10,000 deep": () =>
    rawHeader(`{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0],"x":${'{"y":'.repeat(10_000)}`),
  "a byte order mark before the header": () => rawHeader(`\ufeff${"{}"}`),
  "half of a surrogate pair as a name": () =>
    rawHeader('{"\\ud800":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'),

  // A header whose numbers do not fit.
  "a shape that overflows": () =>
    rawHeader('{"a":{"dtype":"F32","shape":[9007199254740991,9007199254740991],"data_offsets":[0,0]}}'),
  "a shape of 0 times 2^53 - 1": () =>
    rawHeader(
      `{"${MODULE}.lora_down.weight":{"dtype":"F32","shape":[0,9007199254740991],"data_offsets":[0,0]}}`,
    ),
  "offsets that end before they begin": () =>
    rawHeader('{"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}}', new Uint8Array(4)),
  "two tensors at the same place": () =>
    rawHeader(
      '{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}',
      new Uint8Array(4),
    ),

  // Names.
  "tensors called __proto__ and constructor": () =>
    rawHeader(
      '{"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"constructor":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}',
      new Uint8Array(2),
    ),
  "a module called lora_unet_": () => adapter(loraModule({ name: "lora_unet_" })),
  "a module name with a line break, a NUL and an escape": () =>
    adapter(loraModule({ name: "lora_unet_a\n\0\x1b[2J" })),
  "a module name of 10,000 letters": () => adapter(loraModule({ name: `lora_unet_${"x".repeat(10_000)}` })),
  "a module name that is no path": () => adapter(loraModule({ name: "lora_unet_../../etc/passwd" })),
  "kohya's names and diffusers' in one file": () =>
    adapter([
      ...plain,
      { name: "unet.mid_block.attentions.0.proj_in.lora_A.weight", dtype: "F32", shape: [2, 4] },
      { name: "unet.mid_block.attentions.0.proj_in.lora_B.weight", dtype: "F32", shape: [3, 2] },
    ]),
  "one module under both of SDXL's names": () =>
    adapter([
      ...loraModule({ name: "lora_unet_input_blocks_4_1_proj_in", dtype: "F32" }),
      ...loraModule({ name: "lora_unet_down_blocks_1_attentions_0_proj_in", dtype: "F32" }),
    ]),

  // Modules that are none.
  "an alpha alone": () => adapter(plain.slice(2)),
  "a down factor alone": () => adapter(plain.slice(0, 1)),
  "ranks that differ": () => adapter(loraModule({ down: [2, 4], up: [3, 5] })),
  "rank 0": () => adapter(loraModule({ down: [0, 4], up: [3, 0] })),
  "a width of 0": () => adapter(loraModule({ down: [2, 0] })),
  "a factor that is a scalar": () => adapter(loraModule({ down: [] })),
  "factors of six dimensions": () =>
    adapter(loraModule({ down: [2, 4, 1, 1, 1, 1], up: [3, 2, 1, 1, 1, 1] })),
  "a 5x5 convolution": () => adapter(loraModule({ down: [2, 4, 5, 5], up: [3, 2, 1, 1] })),
  "a 1x3 convolution": () => adapter(loraModule({ down: [2, 4, 1, 3], up: [3, 2, 1, 1] })),
  "factors of whole numbers": () => adapter(loraModule({ dtype: "I32" })),
  "factors of truth values": () => adapter(loraModule({ dtype: "BOOL" })),
  "factors of 4 bits": () => adapter(loraModule({ dtype: "F4", alphaDtype: "F32" })),
  "factors of 8 bits": () => adapter(loraModule({ dtype: "F8_E4M3" })),
  "factors of 8 bits without a negative zero": () => adapter(loraModule({ dtype: "F8_E5M2FNUZ" })),
  "factors of F8_E8M0": () => adapter(loraModule({ dtype: "F8_E8M0" })),
  "complex factors": () => adapter(loraModule({ dtype: "C64" })),

  // Alphas.
  "an alpha of three dimensions": () => adapter(loraModule({ alpha: [1, 1, 1] })),
  "two alphas in one": () => adapter(loraModule({ alpha: [2] })),
  "no alpha in the tensor": () => adapter(loraModule({ alpha: [0] })),
  "an alpha that is a truth value": () => adapter(loraModule({ alphaDtype: "BOOL" })),
  "a complex alpha": () => adapter(loraModule({ alphaDtype: "C64" })),
  "an alpha of 4 bits, twice": () => adapter(loraModule({ alphaDtype: "F4", alpha: [2] })),
  "alpha NaN": () => withData(adapter(plain), plain, "alpha", float32(Number.NaN)),
  "alpha 0": () => withData(adapter(plain), plain, "alpha", float32(0)),
  "the smallest alpha there is": () => withData(adapter(plain), plain, "alpha", float32(1.4e-45)),
  "the largest alpha there is": () => withData(adapter(plain), plain, "alpha", float32(3.4e38)),

  // Numbers.
  "a NaN in a factor": () => withData(adapter(plain), plain, "lora_up.weight", float32(1, Number.NaN)),
  "infinity in a factor": () =>
    withData(adapter(plain), plain, "lora_down.weight", float32(Number.NEGATIVE_INFINITY)),
  "the largest numbers there are": () =>
    withData(
      adapter(plain),
      plain,
      "lora_up.weight",
      float32(3.4e38, 3.4e38, 3.4e38, -3.4e38, 3.4e38, 3.4e38),
    ),
  "nothing but zeros": () =>
    withData(
      withData(adapter(plain), plain, "lora_up.weight", new Uint8Array(24)),
      plain,
      "lora_down.weight",
      new Uint8Array(32),
    ),

  // Metadata.
  "metadata keys of Object's own": () =>
    adapter(
      plain,
      Object.fromEntries([
        ["__proto__", "x"],
        ["constructor", "y"],
        ["toString", "z"],
      ]),
    ),
  "network_args that are no JSON": () => withArgs("{unit: 4}"),
  "network_args that are a list": () => withArgs("[1]"),
  "a unit of 0": () => withArgs('{"unit": "0"}'),
  "a unit of 1e999": () => withArgs('{"unit": "1e999"}'),
  "a unit above the rank": () => withArgs('{"unit": "1000000"}'),
  "a unit that is an object": () => withArgs('{"unit": {"a": 1}}'),
  "an alpha rule that nobody knows": () => withArgs('{"alpha_rule": "mine"}'),
  "trained ranks that are none": () => withArgs('{"ranks": "1,,x"}'),
  "trained ranks above the file's": () => withArgs('{"ranks": "64,128"}'),
  "LyCORIS' dylora with a block size of -4": () =>
    withArgs('{"algo": "dylora", "block_size": "-4"}', "lycoris.kohya"),
  "a conversion record that is none": () =>
    adapter(plain, { dylora_converted_from: '{"version": 1, "naming": 7}' }),
  "a conversion record of the future": () => adapter(plain, { dylora_converted_from: '{"version": 99}' }),
  "diffusers' configuration that is none": () =>
    adapter(
      [
        { name: "unet.conv_in.lora_A.weight", dtype: "F32", shape: [2, 3] },
        { name: "unet.conv_in.lora_B.weight", dtype: "F32", shape: [4, 2] },
      ],
      { lora_adapter_metadata: '{"unet.r": "many"}' },
    ),
  "diffusers' configuration with patterns that run for ever": () =>
    adapter(
      [
        { name: `unet.${ATTENTION}.lora_A.weight`, dtype: "F32", shape: [2, 3] },
        { name: `unet.${ATTENTION}.lora_B.weight`, dtype: "F32", shape: [4, 2] },
      ],
      {
        lora_adapter_metadata: JSON.stringify({
          "unet.r": 2,
          "unet.rank_pattern": { "^(([a-z0-9_.])+)+X": 2, "(.*)*(.*)*(.*)*X": 2 },
          "unet.alpha_pattern": { "([a-z._0-9]|[a-z._0-9])*X": 1 },
          "unet.target_modules": "^(([a-z0-9_.])+)+X",
        }),
      },
    ),

  // Other kinds.
  "DoRA, whose direction depends on all": () =>
    adapter([...plain, { name: `${MODULE}.dora_scale`, dtype: "F32", shape: [3, 1] }]),
  "Tucker, whose product has a third factor": () =>
    adapter([...plain, { name: `${MODULE}.lora_mid.weight`, dtype: "F32", shape: [2, 2, 3, 3] }]),
  "a LoHa that lacks a factor": () => adapter([{ name: `${OTHER}.hada_w1_a`, dtype: "F32", shape: [2, 2] }]),
};
