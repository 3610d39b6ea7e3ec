/** The modules of a conversion as they will be written, and the record of what that loses. */
import { type EncodedModule, type EncodeOptions, encodeModule } from "../../adapter/encode-module.js";
import { namingOf } from "../../adapter/identify-model.js";
import { type Adapter, decodeScalar, USUAL_ALPHA, type WrittenDialect } from "../../adapter/index.js";
import { buildPeftConfig } from "../../adapter/peft-config.js";
import type { TensorInfo } from "../../safetensors/index.js";
import { applyException, bestOptions, findException, type ReturningModule } from "./exceptions.js";
import type { StatedHashes } from "./hashes.js";
import { convertedMetadata, type MetadataModule, recordMetadata } from "./metadata.js";
import { type ConversionRecord, keyInConverted, type ModuleException } from "./record.js";
import type { ConvertSource, SourceModule } from "./source.js";

export interface EncodedPair {
  readonly source: SourceModule;
  readonly encoded: EncodedModule;
}

export function usualOptions({ identity }: ConvertSource): EncodeOptions {
  const naming = namingOf(identity.family);
  return {
    model: identity.model,
    naming: { unet: naming, text_encoder: naming, text_encoder_2: naming },
    alpha: USUAL_ALPHA,
  };
}

export function encodeAll(
  to: WrittenDialect,
  modules: readonly SourceModule[],
  usual: EncodeOptions,
  record: ConversionRecord | null,
): EncodedPair[] {
  const options = record === null ? usual : recordedOptions(record);
  return modules.map((source) => {
    const exception = record === null ? undefined : exceptionOf(record, source);
    return { source, encoded: applyException(to, source, encodeModule(to, source, options), exception) };
  });
}

function recordedOptions({ model, naming, alpha }: ConversionRecord): EncodeOptions {
  return { model, naming, alpha: alpha === undefined ? USUAL_ALPHA : alpha };
}

function keyOf({ known }: SourceModule): string {
  return `${known.component}.${known.path}`;
}

function exceptionOf({ modules }: ConversionRecord, source: SourceModule): ModuleException | undefined {
  const key = keyOf(source);
  return modules !== undefined && Object.hasOwn(modules, key) ? modules[key] : undefined;
}

export function metadataModules(modules: readonly SourceModule[]): MetadataModule[] {
  return modules.map(({ known, module }) => ({
    component: known.component,
    path: known.path,
    rank: module.rank,
    alpha: module.alpha,
  }));
}

/** What the source would lose. */
export function buildRecord(
  source: Adapter,
  { modules }: ConvertSource,
  encoded: readonly EncodedPair[],
  to: WrittenDialect,
  usual: EncodeOptions,
  hashes: readonly (StatedHashes | null)[],
): ConversionRecord {
  const dialect = source.dialect as WrittenDialect;
  const pairs = encoded.map(({ source: original, encoded: tensors }): ReturningModule => {
    const { alphaTensor } = original.module;
    const alphaBytes = alphaTensor && source.file.readScalarSync(alphaTensor.name);
    return { original: asInItsFile(source, original), alphaBytes, returning: asRead(original, tensors) };
  });
  const options = bestOptions(dialect, pairs, usual);
  const exceptions = pairs.flatMap((pair): [string, ModuleException][] => {
    const exception = findException(pair, encodeModule(dialect, pair.returning, options));
    return exception === null ? [] : [[keyOf(pair.original), exception]];
  });
  const returning = pairs.map((pair) => pair.returning);
  const converted = convertedMetadata(source.metadata, to, metadataModules(modules), usual.model);
  const originalKeys = new Set(Object.keys(source.metadata).map(keyInConverted));
  return {
    version: 1,
    dialect,
    model: options.model,
    naming: options.naming,
    ...(options.alpha === USUAL_ALPHA ? {} : { alpha: options.alpha }),
    ...(exceptions.length === 0 ? {} : { modules: Object.fromEntries(exceptions) }),
    parts: source.parts.map(({ folder, file, config }, index) => {
      const own = returning.filter(({ module }) => folder === "" || module.component === folder);
      const stated = hashes[index] ?? null;
      const areRight = stated?.areRight ?? false;
      const metadata = recordMetadata(file.header.metadata, converted, metadataModules(own), areRight);
      const isUsual =
        config === null || (own.length > 0 && config.text === buildPeftConfig(metadataModules(own)));
      return {
        folder,
        metadata,
        ...(isUsual ? {} : { config: config.text }),
        ...(stated === null || areRight ? {} : { dataSha256: stated.dataSha256 }),
      };
    }),
    added: Object.keys(converted).filter((key) => !originalKeys.has(key)),
  };
}

/** With the names that the tensors have in their own file: those of several read as one have a folder in front. */
function asInItsFile({ parts }: Adapter, original: SourceModule): SourceModule {
  if (parts.every(({ folder }) => folder === "")) return original;
  const { module } = original;
  const own = <Tensor extends TensorInfo>(tensor: Tensor): Tensor => ({
    ...tensor,
    name: tensor.name.slice(tensor.name.indexOf("/") + 1),
  });
  const alphaTensor = module.alphaTensor && own(module.alphaTensor);
  return { ...original, module: { ...module, down: own(module.down), up: own(module.up), alphaTensor } };
}

/** A module as it will be read from the converted file. */
function asRead(original: SourceModule, { down, up, alpha }: EncodedModule): SourceModule {
  const value = alpha === null ? original.alpha : decodeScalar(alpha.bytes, alpha.dtype);
  const module = { ...original.module, alpha: value };
  const matrix = original.kind === "conv3x3" ? "conv3x3" : down.shape.length === 2 ? "linear" : "conv1x1";
  return { ...original, module, alpha: value, kind: matrix, down, up };
}
