/**
 * Options as data.
 *
 * One table describes every option of a command; flags, config-file keys, help, defaults and TypeScript types are
 * derived from it, so none of them can drift from the others. Names are sd-scripts' names (`network_dim`) wherever
 * sd-scripts has the option.
 */

/** Width and height in pixels. */
export interface Resolution {
  readonly width: number;
  readonly height: number;
}

interface OptionBase {
  /** Heading under which the help lists the option. */
  readonly group: string;
  /** One line: what it does and its unit. Default and allowed values are added by the help. */
  readonly description: string;
  /** Shown among the common options, first in the help. */
  readonly common?: true;
  /** There is no default; the command cannot run without it. */
  readonly required?: true;
  /** Name of the value in the help, for example `px` in `--resolution <px>`. */
  readonly placeholder?: string;
  /** Words that people from elsewhere may try, for the suggestion after an unknown option: `rank`. */
  readonly alsoCalled?: readonly string[];
  /** What the help says about a default that the value itself does not show. */
  readonly defaultText?: string;
  /** Taken, but not shown in the help. */
  readonly hidden?: true;
  /** The value is part of what a training state consists of: `resume` refuses another one. */
  readonly fixedOnResume?: true;
}

export interface BooleanOption extends OptionBase {
  readonly type: "boolean";
  readonly default: false;
}

export interface NumberOption extends OptionBase {
  readonly type: "integer" | "number";
  readonly default: number | null;
  /** Smallest and largest allowed value, both inclusive. */
  readonly min?: number;
  readonly max?: number;
  /** Exclusive bounds. */
  readonly above?: number;
  readonly below?: number;
  /** sd-scripts writes this one as a list; a list with one element is taken. */
  readonly listOfOne?: true;
}

/** A count of steps (a whole number from 1), or a share of all steps (below 1, or written `10%`). */
export interface StepsOption extends OptionBase {
  readonly type: "steps";
  readonly default: number;
}

export interface EnumOption extends OptionBase {
  readonly type: "enum";
  readonly values: readonly string[];
  readonly default: string | null;
  /** Other spellings of a value, for example `networks.dylora` for `dylora`. */
  readonly aliases?: Readonly<Record<string, string>>;
  /** Values that sd-scripts knows and this project does not: why, and what to use instead. */
  readonly refused?: Readonly<Record<string, string>>;
  readonly ignoreCase?: true;
}

export interface TextOption extends OptionBase {
  readonly type: "text";
  readonly default: string | null;
}

/** A file or folder; relative paths are resolved against the working directory. */
export interface PathOption extends OptionBase {
  readonly type: "path";
  readonly default: string | null;
}

/** Several words, for example `key=value` pairs; their meaning belongs to whoever reads them. */
export interface ListOption extends OptionBase {
  readonly type: "list";
  readonly default: readonly string[];
}

/** Whole numbers separated by commas, for example the ranks `4,8,16`. */
export interface IntegersOption extends OptionBase {
  readonly type: "integers";
  readonly default: readonly number[] | null;
  /** Smallest allowed number. */
  readonly min: number;
}

/** Numbers separated by commas, for example the strengths `0.5,0.75,1`. */
export interface NumbersOption extends OptionBase {
  readonly type: "numbers";
  readonly default: readonly number[];
  /** Smallest and largest allowed number, both inclusive. */
  readonly min: number;
  readonly max: number;
}

/** `512` or `768,512` (width, height) in pixels. */
export interface ResolutionOption extends OptionBase {
  readonly type: "resolution";
  readonly default: Resolution | null;
}

export type OptionSpec =
  | BooleanOption
  | NumberOption
  | StepsOption
  | EnumOption
  | TextOption
  | PathOption
  | ListOption
  | IntegersOption
  | NumbersOption
  | ResolutionOption;

export type OptionTable = Readonly<Record<string, OptionSpec>>;

/** `network_dim` -> `networkDim`. */
export type CamelCase<Name extends string> = Name extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<CamelCase<Tail>>}`
  : Name;

type NullOf<Spec extends OptionSpec> = Spec extends { required: true }
  ? never
  : Spec["default"] extends null
    ? null
    : never;

/** The TypeScript type of an option's value. */
export type ValueOf<Spec extends OptionSpec> =
  | NullOf<Spec>
  | (Spec extends { type: "boolean" }
      ? boolean
      : Spec extends { type: "integer" | "number" | "steps" }
        ? number
        : Spec extends { type: "enum"; values: readonly (infer Value)[] }
          ? Value
          : Spec extends { type: "list" }
            ? readonly string[]
            : Spec extends { type: "integers" | "numbers" }
              ? readonly number[]
              : Spec extends { type: "resolution" }
                ? Resolution
                : string);

/** The configuration object that a table describes: camelCase names, every value present. */
export type ConfigOf<Table extends OptionTable> = {
  readonly [Name in keyof Table & string as CamelCase<Name>]: ValueOf<Table[Name]>;
};

export function camelCase<Name extends string>(name: Name): CamelCase<Name> {
  return name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase()) as CamelCase<Name>;
}

/** A table's names with the other words for them, each with the name it stands for. */
export function knownNames(table: OptionTable): Map<string, string> {
  const names = new Map<string, string>();
  for (const [name, spec] of Object.entries(table)) {
    for (const word of [name, ...(spec.alsoCalled ?? [])]) names.set(word, name);
  }
  return names;
}

/** The defaults of a table as a configuration; required options are left out. */
export function defaultsOf<Table extends OptionTable>(table: Table): Partial<ConfigOf<Table>> {
  const defaults: Record<string, unknown> = {};
  for (const [name, spec] of Object.entries(table)) {
    if (spec.required !== true) defaults[camelCase(name)] = spec.default;
  }
  return defaults as Partial<ConfigOf<Table>>;
}
