/** Random adapters in every dialect: any subset of a model's real modules, in any form that files of the dialect have. */
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import fc from "fast-check";
import { type KnownModule, kohyaNameOf, modulesOf } from "../../src/adapter/module-names.js";
import { buildPeftConfig } from "../../src/adapter/peft-config.js";
import type { Dtype } from "../../src/safetensors/index.js";
import { type TensorToWrite, writeTensors } from "./write-tensors.js";

const MODELS = ["sd1", "sd2", "sdxl"] as const;

/** A file or folder that can be written, as data: fast-check prints and shrinks it. */
export interface DialectAdapter {
  /** By file below the adapter's path; "" is the path itself. */
  readonly files: readonly { readonly file: string; readonly tensors: readonly TensorToWrite[] }[];
  readonly texts: readonly { readonly file: string; readonly text: string }[];
  readonly metadata: Readonly<Record<string, string>> | null;
  readonly hashes: boolean;
  readonly seed: number;
}

export async function writeDialectAdapter(path: string, adapter: DialectAdapter): Promise<void> {
  const { metadata, hashes, seed } = adapter;
  for (const [index, { file, tensors }] of adapter.files.entries()) {
    await mkdir(dirname(join(path, file)), { recursive: true });
    await writeTensors(join(path, file), tensors, { metadata, hashes, seed: seed + index });
  }
  for (const { file, text } of adapter.texts) await writeFile(join(path, file), text);
}

interface RandomModule {
  readonly known: KnownModule;
  readonly rank: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly alpha: number;
  /** A 1x1 convolution as a matrix, a Linear as a 1x1 convolution. */
  readonly isReshaped: boolean;
  /** The up factor of a convolution as a matrix, as LyCORIS writes it. */
  readonly isUpMatrix: boolean;
  readonly isOdd: boolean;
}

interface RandomModel {
  readonly model: (typeof MODELS)[number];
  readonly modules: readonly RandomModule[];
  readonly dtype: Dtype;
}

const oneOf = <T>(...values: readonly T[]) => fc.constantFrom(...values);

/** Alphas of every kind: exact and inexact in float16, zero, negative, as large as the rank. */
const ALPHA = oneOf(1, 4, 0.5, 0.1, 1e-5, 0, -2, 3.140625, 128);

const MODEL: fc.Arbitrary<RandomModel> = oneOf(...MODELS).chain((model) => {
  const all = modulesOf(model);
  const module = fc.record({
    known: fc.nat({ max: all.length - 1 }).map((index) => all[index]!),
    rank: oneOf(1, 2, 4, 4, 4),
    inFeatures: oneOf(1, 3, 8, 768, 1024),
    outFeatures: fc.integer({ min: 1, max: 6 }),
    alpha: ALPHA,
    isReshaped: fc.nat({ max: 5 }).map((n) => n === 0),
    isUpMatrix: fc.nat({ max: 5 }).map((n) => n === 0),
    isOdd: fc.nat({ max: 7 }).map((n) => n === 0),
  });
  const modules = fc.uniqueArray(module, { minLength: 1, maxLength: 12, selector: ({ known }) => known });
  const hasOneAlpha = fc.boolean();
  return fc
    .record({ model: fc.constant(model), modules, dtype: oneOf<Dtype>("F16", "BF16", "F32"), hasOneAlpha })
    .map(({ hasOneAlpha: isShared, ...rest }) =>
      isShared
        ? { ...rest, modules: rest.modules.map((one) => ({ ...one, alpha: rest.modules[0]!.alpha })) }
        : rest,
    );
});

const METADATA_VALUE = fc.string({ unit: "grapheme", maxLength: 12 });
const METADATA = fc.option(
  fc.oneof(
    fc.constant({}),
    // Numbers as keys come first in a JavaScript object, whatever their place in the file.
    fc.dictionary(
      fc.string({ unit: "grapheme", maxLength: 8 }).filter((key) => !/^\d+$/.test(key)),
      METADATA_VALUE,
    ),
    fc.record({
      ss_network_module: fc.constant("networks.lora"),
      ss_tag: METADATA_VALUE,
      "modelspec.title": METADATA_VALUE,
    }),
    fc.record({
      format: oneOf("pt", "tf"),
      note: METADATA_VALUE,
      ss_base_model_version: oneOf("sd_v1", "sdxl_base_v1-0"),
    }),
  ),
);

function shapes(
  { known, rank, inFeatures, outFeatures, isReshaped, isUpMatrix }: RandomModule,
  { model }: RandomModel,
) {
  const kind = known.kinds.get(model)!;
  const isConvolution = kind === "conv3x3" || (kind === "conv1x1") !== isReshaped;
  const kernel = kind === "conv3x3" ? [3, 3] : isConvolution ? [1, 1] : [];
  return {
    down: [rank, inFeatures, ...kernel],
    up: [outFeatures, rank, ...(isConvolution && !isUpMatrix ? [1, 1] : [])],
  };
}

/** kohya: both namings and `lora_te1`, alphas of any type, shape and presence. */
export const KOHYA_ADAPTER: fc.Arbitrary<DialectAdapter> = fc
  .record({
    random: MODEL,
    naming: oneOf("flat", "sdxl"),
    alphaDtype: oneOf<Dtype | "factors">("factors", "factors", "F32", "F64", "I64"),
    alphas: oneOf("all", "all", "none", "some"),
    alphaShape: oneOf([], [], [1]),
    metadata: METADATA,
    hashes: fc.boolean(),
    seed: fc.nat({ max: 1000 }),
  })
  .map(({ random, naming, alphaDtype, alphas, alphaShape, metadata, hashes, seed }): DialectAdapter => {
    const { dtype } = random;
    const tensors = random.modules.flatMap((module): TensorToWrite[] => {
      const name = kohyaNameOf(module.known, module.isOdd !== (naming === "sdxl") ? "sdxl" : "flat");
      const { down, up } = shapes(module, random);
      const hasAlpha = alphas === "all" || (alphas === "some" && !module.isUpMatrix);
      const ownDtype = module.isOdd || alphaDtype === "factors" ? dtype : alphaDtype;
      const value = ownDtype === "I64" ? Math.round(module.alpha) : module.alpha;
      return [
        { name: `${name}.lora_down.weight`, shape: down, dtype },
        { name: `${name}.lora_up.weight`, shape: up, dtype },
        ...(hasAlpha ? [{ name: `${name}.alpha`, shape: alphaShape, dtype: ownDtype, value }] : []),
      ];
    });
    return { files: [{ file: "", tensors }], texts: [], metadata, hashes, seed };
  });

const NAMES_OF_EVERY_AGE: readonly (readonly [down: string, up: string])[] = [
  [".lora_A", ".lora_B"],
  [".lora.down", ".lora.up"],
  [".lora_linear_layer.down", ".lora_linear_layer.up"],
];

/** diffusers: today's and older names, with and without alphas. */
export const DIFFUSERS_ADAPTER: fc.Arbitrary<DialectAdapter> = fc
  .record({
    random: MODEL,
    names: oneOf(...NAMES_OF_EVERY_AGE),
    config: oneOf("none", "usual", "compact", "rslora"),
    metadata: METADATA,
    hashes: fc.boolean(),
    seed: fc.nat({ max: 1000 }),
  })
  .map(({ random, names: [a, b], config, metadata, hashes, seed }): DialectAdapter => {
    const tensors = random.modules.flatMap((module): TensorToWrite[] => {
      const { component, path } = module.known;
      const { down, up } = shapes(module, random);
      return [
        { name: `${component}.${path}${a}.weight`, shape: down, dtype: random.dtype },
        { name: `${component}.${path}${b}.weight`, shape: up, dtype: random.dtype },
      ];
    });
    if (config === "none") return { files: [{ file: "", tensors }], texts: [], metadata, hashes, seed };
    const fields: Record<string, unknown> = {};
    for (const component of new Set(random.modules.map(({ known }) => known.component))) {
      const own = configured(random).filter(({ known }) => known.component === component);
      for (const [key, value] of Object.entries(JSON.parse(buildPeftConfig(own))))
        fields[`${component}.${key}`] = value;
      if (config === "rslora") fields[`${component}.use_rslora`] = true;
    }
    const text = JSON.stringify(fields, null, config === "compact" ? 0 : 2);
    return {
      files: [{ file: "", tensors }],
      texts: [],
      metadata: { ...metadata, lora_adapter_metadata: text },
      hashes,
      seed,
    };
  });

/** PEFT: one folder, or one for each component. */
export const PEFT_ADAPTER: fc.Arbitrary<DialectAdapter> = fc
  .record({
    random: MODEL,
    isNamed: fc.boolean(),
    config: oneOf("usual", "compact", "rslora"),
    metadata: METADATA,
    hashes: fc.boolean(),
    seed: fc.nat({ max: 1000 }),
  })
  .map(({ random, isNamed, config, metadata, hashes, seed }): DialectAdapter => {
    const components = [...new Set(random.modules.map(({ known }) => known.component))];
    const files: DialectAdapter["files"][number][] = [];
    const texts: DialectAdapter["texts"][number][] = [];
    for (const component of components) {
      const folder = components.length === 1 && component === "unet" ? "" : component;
      const own = configured(random).filter(({ known }) => known.component === component);
      const tensors = own.flatMap((module): TensorToWrite[] => {
        const { down, up } = shapes(module, random);
        const prefix = `base_model.model.${module.known.path}`;
        const suffix = isNamed ? ".default.weight" : ".weight";
        return [
          { name: `${prefix}.lora_A${suffix}`, shape: down, dtype: random.dtype },
          { name: `${prefix}.lora_B${suffix}`, shape: up, dtype: random.dtype },
        ];
      });
      const fields = { ...JSON.parse(buildPeftConfig(own)), revision: null, use_rslora: config === "rslora" };
      files.push({ file: join(folder, "adapter_model.safetensors"), tensors });
      const text = config === "usual" ? buildPeftConfig(own) : JSON.stringify(fields);
      texts.push({ file: join(folder, "adapter_config.json"), text });
    }
    return { files, texts, metadata, hashes, seed };
  });

function configured({ modules }: RandomModel): (RandomModule & { readonly path: string })[] {
  return modules.map((module) => ({ ...module, path: module.known.path }));
}
