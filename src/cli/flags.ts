/** Between the option tables and commander: declares the flags, and collects what was typed. */
import { type Command, Option } from "commander";
import { DyloraError } from "../errors.js";
import type { OptionSpec } from "../options/option-spec.js";
import type { ForeignOption, GivenOption } from "../options/read-options.js";
import { type CommandDefinition, flagOf } from "./command.js";
import { COMMON_GROUP, describeOption, groupHeading, hasAdvancedOptions } from "./help.js";

/** Declares every option of a command: its own, the silent `--no_` form of its switches, and sd-scripts' others. */
export function declareFlags(command: Command, definition: CommandDefinition): void {
  const own = Object.entries(definition.table);
  const advanced = hasAdvancedOptions(definition.table);
  for (const [name, spec] of [...own.filter(isCommon), ...own.filter((entry) => !isCommon(entry))]) {
    const option = new Option(`${flagOf(name, definition)}${valueSyntax(spec)}`, describeOption(spec));
    command.addOption(option.helpGroup(groupHeading(spec, advanced)).hideHelp(spec.hidden === true));
    if (spec.type === "boolean") command.addOption(new Option(`--no_${name}`).hideHelp());
  }
  for (const [name, foreign] of Object.entries(definition.foreign ?? {})) {
    command.addOption(new Option(`--${name}${foreignSyntax(foreign)}`).hideHelp());
  }
  const outputGroup = advanced ? "Output:" : COMMON_GROUP;
  command.addOption(new Option("--json", jsonDescription(definition.command)).helpGroup(outputGroup));
  command.addOption(new Option("--debug", "show the stack of an error").helpGroup(outputGroup));
  command.optionsGroup(outputGroup).helpOption("-h, --help", "show this help");
}

/**
 * Gives every flag the spelling that it is declared with: `--network-dim`, `--network_dim` and `--network_dim=8` are the
 * same option. A negative value is bound to its option, so that it is not taken for one itself. What follows `--` is left alone.
 */
export function unifySpelling(args: readonly string[], command: Command): string[] {
  const declared = new Map(
    command.options.flatMap(({ long }) =>
      long ? [[long.slice(2).replaceAll("-", "_"), long] as const] : [],
    ),
  );
  const end = args.indexOf("--");
  const spelled = args.map((arg, index) => {
    if (!arg.startsWith("--") || (end >= 0 && index >= end)) return arg;
    const equals = arg.indexOf("=");
    const name = equals < 0 ? arg : arg.slice(0, equals);
    const long = declared.get(name.slice(2).replaceAll("-", "_"));
    return long === undefined ? arg : long + arg.slice(name.length);
  });
  return bindNegativeValues(spelled, command);
}

/** A number or a list of numbers, `-1,0.5`: no option begins like that. */
const NEGATIVE_VALUE = /^-\.?\d/;

/** Of negative values, commander takes single numbers alone for values: it gets others as `--option=value`. */
function bindNegativeValues(args: readonly string[], command: Command): string[] {
  const valued = new Map(
    command.options.flatMap((option) => (option.required ? [[option.long, option] as const] : [])),
  );
  const end = args.includes("--") ? args.indexOf("--") : args.length;
  const bound: string[] = [];
  let next = 0;
  while (next < end) {
    const arg = args[next++]!;
    const option = valued.get(arg);
    const first = next;
    const most = option === undefined ? 0 : option.variadic ? end : first + 1;
    while (next < Math.min(most, end) && isValue(args[next]!)) next++;
    const values = args.slice(first, next);
    if (values.some((value) => NEGATIVE_VALUE.test(value)))
      bound.push(...values.map((value) => `${arg}=${value}`));
    else bound.push(arg, ...values);
  }
  return [...bound, ...args.slice(end)];
}

function isValue(arg: string): boolean {
  return !arg.startsWith("-") || NEGATIVE_VALUE.test(arg);
}

/** What was typed, option by option, in the table's order. */
export function collectFlags(command: Command, definition: CommandDefinition): GivenOption[] {
  const typed = typedValues(command);
  const names = [...Object.keys(definition.table), ...Object.keys(definition.foreign ?? {})];
  return names.flatMap((name) => {
    const negated = typed.get(`no_${name}`) === true && definition.table[name]?.type === "boolean";
    const flag = flagOf(name, definition);
    if (negated && typed.has(name)) {
      throw new DyloraError("E_USAGE", `${definition.command}: ${flag} and --no_${name} exclude each other`);
    }
    const value = negated ? false : typed.get(name);
    return value === undefined ? [] : [{ name, value, label: negated ? `--no_${name}` : flag }];
  });
}

/** By the option's name with underscores. */
function typedValues(command: Command): Map<string, unknown> {
  const values = command.opts<Record<string, unknown>>();
  return new Map(
    command.options.flatMap((option) => {
      const value = values[option.attributeName()];
      return value === undefined ? [] : [[(option.long ?? "").slice(2).replaceAll("-", "_"), value] as const];
    }),
  );
}

function isCommon([, spec]: [string, OptionSpec]): boolean {
  return spec.common === true;
}

function valueSyntax(spec: OptionSpec): string {
  switch (spec.type) {
    case "boolean":
      return "";
    case "integer":
    case "steps":
      return ` <${spec.placeholder ?? "n"}>`;
    case "number":
      return ` <${spec.placeholder ?? "x"}>`;
    case "enum":
      return ` <${spec.placeholder ?? "name"}>`;
    case "list":
      return ` <${spec.placeholder ?? "word..."}>`;
    default:
      return ` <${spec.placeholder ?? spec.type}>`;
  }
}

function foreignSyntax(foreign: ForeignOption): string {
  if (foreign.takes === "nothing") return "";
  return foreign.takes === "value" ? " <value>" : " <values...>";
}

function jsonDescription(command: string): string {
  return command === "train" || command === "resume"
    ? "print one JSON document per event on stdout"
    : "print one JSON document on stdout";
}
