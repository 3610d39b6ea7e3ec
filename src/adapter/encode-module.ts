/** What the tensors of a module are called in each dialect that dylora writes, and which shapes they have there. */
import type { TensorInfo, TensorSpec } from "../safetensors/index.js";
import type { BaseModel } from "./base-model.js";
import { diffusersTensorName } from "./dialects/diffusers.js";
import { kohyaTensorNames } from "./dialects/kohya.js";
import { peftTensorName } from "./dialects/peft.js";
import type { AlphaForm, KohyaNaming, WrittenDialect } from "./dialects/written.js";
import type { Component, ModuleKind } from "./module.js";
import { type KnownModule, kindOfModule, kohyaNameOf } from "./module-names.js";
import { encodeScalar, encodeScalarAs } from "./scalar.js";

/** A module whose factors are copied. Shapes as `LoraModule`. */
export interface ModuleToEncode {
  readonly known: KnownModule;
  readonly kind: ModuleKind;
  readonly alpha: number;
  readonly down: Pick<TensorInfo, "dtype" | "shape">;
  readonly up: Pick<TensorInfo, "dtype" | "shape">;
}

export interface EncodeOptions {
  /** Decides whether `proj_in` is a convolution; null leaves it as it is. */
  readonly model: BaseModel | null;
  /** Of kohya's dialect. */
  readonly naming: Readonly<Record<Component, KohyaNaming>>;
  /** Of kohya's dialect; null writes no alpha. */
  readonly alpha: AlphaForm | null;
}

export interface EncodedScalar extends TensorSpec {
  readonly bytes: Uint8Array;
}

export interface EncodedModule {
  readonly down: TensorSpec;
  readonly up: TensorSpec;
  /** Null in dialects that keep alpha elsewhere. */
  readonly alpha: EncodedScalar | null;
}

export function encodeModule(
  dialect: WrittenDialect,
  module: ModuleToEncode,
  options: EncodeOptions,
): EncodedModule {
  const { known, down, up } = module;
  const { component, path } = known;
  const kind = kindOfModule(known, options.model) ?? module.kind;
  const factor = (name: string, { dtype, shape }: Pick<TensorInfo, "dtype" | "shape">): TensorSpec => ({
    name,
    dtype,
    shape: withDimensions(shape, kind === "linear" ? 2 : 4),
  });
  switch (dialect) {
    case "kohya": {
      const names = kohyaTensorNames(kohyaNameOf(known, options.naming[component]));
      const alpha = options.alpha && encodeAlpha(names.alpha, module, options.alpha);
      return { down: factor(names.down, down), up: factor(names.up, up), alpha };
    }
    case "diffusers":
      return {
        down: factor(diffusersTensorName(component, path, "down"), down),
        up: factor(diffusersTensorName(component, path, "up"), up),
        alpha: null,
      };
    case "peft":
      return {
        down: factor(peftTensorName(path, "down"), down),
        up: factor(peftTensorName(path, "up"), up),
        alpha: null,
      };
  }
}

/** A matrix as a 1x1 convolution and back; a kernel larger than 1 stays. */
export function withDimensions(shape: readonly number[], dimensions: number): readonly number[] {
  if (dimensions === 4 && shape.length === 2) return [...shape, 1, 1];
  if (dimensions === 2 && shape.length === 4 && shape[2] === 1 && shape[3] === 1) return shape.slice(0, 2);
  return shape;
}

/** Whether a module's factors can be those of the layer: its kernel is the model's. */
export function fitsModule(known: KnownModule, kind: ModuleKind): boolean {
  return [...known.kinds.values()].some((own) => (own === "conv3x3") === (kind === "conv3x3"));
}

function encodeAlpha(name: string, { alpha, down }: ModuleToEncode, form: AlphaForm): EncodedScalar {
  const exact = form.dtype === null ? null : encodeScalar(alpha, form.dtype);
  const encoded =
    exact === null ? encodeScalarAs(alpha, down.dtype) : { dtype: form.dtype ?? down.dtype, bytes: exact };
  return { name, shape: form.shape, ...encoded };
}
