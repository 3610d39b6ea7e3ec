/** The difference between a module as a file has it and as dylora would write it: found on the way there, applied on the way back. */
import {
  type EncodedModule,
  type EncodedScalar,
  type EncodeOptions,
  encodeModule,
  withDimensions,
} from "../../adapter/encode-module.js";
import {
  type AlphaForm,
  COMPONENTS,
  type Component,
  DIALECTS,
  decodeScalar,
  encodeScalar,
  type KohyaNaming,
  type TensorRole,
  USUAL_ALPHA,
  type WrittenDialect,
} from "../../adapter/index.js";
import { type KnownModule, kohyaNameOf, moduleOfKohyaName } from "../../adapter/module-names.js";
import { DTYPES, elementBytes, type TensorSpec } from "../../safetensors/index.js";
import type { AlphaException, FactorException, ModuleException } from "./record.js";
import type { SourceModule } from "./source.js";

/** A module of the original, as it will be read from the converted file. */
export interface ReturningModule {
  readonly original: SourceModule;
  /** Of the original, as they are in the file; null where it has none. */
  readonly alphaBytes: Uint8Array | null;
  readonly returning: SourceModule;
}

/** The options with which the fewest modules are exceptions. */
export function bestOptions(
  dialect: WrittenDialect,
  modules: readonly ReturningModule[],
  usual: EncodeOptions,
): EncodeOptions {
  if (dialect !== "kohya") return usual;
  const naming = { ...usual.naming };
  for (const component of COMPONENTS)
    naming[component] = commonestNaming(modules, component, usual.naming[component]);
  const options = { ...usual, naming };
  const forms = new Map<string, AlphaForm | null>([["usual", USUAL_ALPHA]]);
  for (const { original } of modules) {
    const { alphaTensor } = original.module;
    const form = alphaTensor && { dtype: alphaTensor.dtype, shape: alphaTensor.shape };
    forms.set(JSON.stringify(form), form);
  }
  let best: { readonly alpha: AlphaForm | null; readonly fitting: number } = {
    alpha: USUAL_ALPHA,
    fitting: -1,
  };
  for (const alpha of forms.values()) {
    const fitting = modules.filter((module) => {
      const encoded = encodeModule(dialect, module.returning, { ...options, alpha });
      return alphaException(module, encoded.alpha) === undefined;
    }).length;
    if (fitting > best.fitting) best = { alpha, fitting };
  }
  return { ...options, alpha: best.alpha };
}

/** What must be told to get a module back; null where nothing must. */
export function findException(module: ReturningModule, encoded: EncodedModule): ModuleException | null {
  const { down, up } = module.original.module;
  const exception = {
    ...present("down", factorException(down, encoded.down)),
    ...present("up", factorException(up, encoded.up)),
    ...present("alpha", alphaException(module, encoded.alpha)),
  };
  return Object.keys(exception).length === 0 ? null : exception;
}

/** The module as the original had it, as far as the record says something that such a file can have. */
export function applyException(
  dialect: WrittenDialect,
  { known, alpha }: SourceModule,
  encoded: EncodedModule,
  exception: ModuleException | undefined,
): EncodedModule {
  if (exception === undefined) return encoded;
  const applied = {
    down: applyToFactor(encoded.down, exception.down),
    up: applyToFactor(encoded.up, exception.up),
    alpha: applyToAlpha(encoded, exception.alpha, alpha),
  };
  const isNamed = (["down", "up", "alpha"] as const).every(
    (part) => applied[part] === null || isNameOf(applied[part].name, dialect, known, part),
  );
  return isNamed ? applied : encoded;
}

/** Whether a reader takes a tensor of that name for that part of the module. */
function isNameOf(
  name: string,
  dialect: WrittenDialect,
  known: KnownModule,
  part: TensorRole["part"],
): boolean {
  const role = DIALECTS.find(({ id }) => id === dialect)?.roleOf(name);
  if (role?.part !== part) return false;
  if (dialect === "kohya") return moduleOfKohyaName(role.module) === known;
  // PEFT's names are the same for both text encoders.
  const path = role.module.slice(role.component.length + 1);
  return path === known.path && (dialect === "peft" || role.component === known.component);
}

function commonestNaming(
  modules: readonly ReturningModule[],
  component: Component,
  usual: KohyaNaming,
): KohyaNaming {
  const own = modules.filter(({ original }) => original.known.component === component);
  const fitting = (naming: KohyaNaming) =>
    own.filter(({ original }) => kohyaNameOf(original.known, naming) === original.module.name).length;
  const other = usual === "flat" ? "sdxl" : "flat";
  return fitting(other) > fitting(usual) ? other : usual;
}

function factorException(original: TensorSpec, encoded: TensorSpec): FactorException | undefined {
  const dimensions = original.shape.length;
  const exception: FactorException = {
    ...(original.name === encoded.name ? {} : { name: original.name }),
    ...(dimensions === encoded.shape.length ? {} : { dimensions: dimensions === 2 ? 2 : 4 }),
  };
  return Object.keys(exception).length === 0 ? undefined : exception;
}

function alphaException(
  { original, alphaBytes }: ReturningModule,
  encoded: EncodedScalar | null,
): AlphaException | null | undefined {
  const { alphaTensor } = original.module;
  if (alphaTensor === null || alphaBytes === null) return encoded === null ? undefined : null;
  const bytes =
    encoded?.dtype === alphaTensor.dtype ? encoded.bytes : encodeScalar(original.alpha, alphaTensor.dtype);
  const exception: AlphaException = {
    ...(encoded?.name === alphaTensor.name ? {} : { name: alphaTensor.name }),
    ...(encoded?.dtype === alphaTensor.dtype ? {} : { dtype: alphaTensor.dtype }),
    ...(encoded?.shape.length === alphaTensor.shape.length ? {} : { shape: alphaTensor.shape }),
    ...(bytes !== null && Buffer.compare(bytes, alphaBytes) === 0
      ? {}
      : { hex: Buffer.from(alphaBytes).toString("hex") }),
  };
  return Object.keys(exception).length === 0 ? undefined : exception;
}

function applyToFactor(encoded: TensorSpec, exception: FactorException | undefined): TensorSpec {
  if (exception === undefined) return encoded;
  const { name = encoded.name, dimensions = encoded.shape.length } = exception;
  return { ...encoded, name, shape: withDimensions(encoded.shape, dimensions) };
}

function applyToAlpha(
  { down, alpha: encoded }: EncodedModule,
  exception: AlphaException | null | undefined,
  alpha: number,
): EncodedScalar | null {
  if (exception === undefined) return encoded;
  if (exception === null) return null;
  const dtype = exception.dtype ?? encoded?.dtype ?? down.dtype;
  const name = exception.name ?? encoded?.name;
  const bytes = hexOf(exception, dtype, alpha) ?? encodeScalar(alpha, dtype);
  // The alpha was changed since, and the original's type cannot hold it; or a record that fits no kohya file.
  if (name === undefined || bytes === null) return encoded;
  return { name, dtype, shape: exception.shape ?? encoded?.shape ?? [], bytes };
}

/** The recorded bytes, if they still are the alpha. */
function hexOf({ hex }: AlphaException, dtype: EncodedScalar["dtype"], alpha: number): Uint8Array | null {
  if (hex === undefined) return null;
  const bytes = new Uint8Array(Buffer.from(hex, "hex"));
  if (elementBytes(dtype) !== bytes.length || DTYPES[dtype].kind === "complex") return null;
  return decodeScalar(bytes, dtype) === alpha ? bytes : null;
}

function present<Key extends string, Value>(key: Key, value: Value | undefined): Partial<Record<Key, Value>> {
  return (value === undefined ? {} : { [key]: value }) as Partial<Record<Key, Value>>;
}
