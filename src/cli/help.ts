import type { Command, Help, HelpConfiguration } from "commander";
import { DyloraError, ERROR_EXIT_CODES } from "../errors.js";
import type { OptionSpec, OptionTable } from "../options/option-spec.js";
import type { Example } from "./command.js";
import type { Style } from "./terminal.js";

/** Heading of the options that come first. */
export const COMMON_GROUP = "Options:";

export function hasAdvancedOptions(table: OptionTable): boolean {
  return Object.values(table).some((spec) => spec.common !== true);
}

export function groupHeading(spec: OptionSpec, advanced: boolean): string {
  return spec.common || !advanced ? COMMON_GROUP : `Advanced, ${spec.group.toLowerCase()}:`;
}

/** Description with the facts that the table knows: allowed values, default, whether it is required. */
export function describeOption(spec: OptionSpec): string {
  const facts: string[] = [];
  if (spec.type === "enum" && spec.values.length > 1) facts.push(spec.values.join(" | "));
  if (spec.required) facts.push("required");
  else if (spec.defaultText !== undefined) facts.push(`default: ${spec.defaultText}`);
  else {
    const text = defaultText(spec);
    if (text !== null) facts.push(`default: ${text}`);
  }
  return facts.length === 0 ? spec.description : `${spec.description} (${facts.join("; ")})`;
}

function defaultText(spec: OptionSpec): string | null {
  switch (spec.type) {
    case "boolean":
    case "list":
      return null;
    case "resolution":
      if (spec.default === null) return null;
      return spec.default.width === spec.default.height
        ? String(spec.default.width)
        : `${spec.default.width},${spec.default.height}`;
    case "number":
      return spec.default === null ? null : formatNumber(spec.default);
    default:
      return spec.default === null ? null : String(spec.default);
  }
}

function formatNumber(value: number): string {
  return value !== 0 && Math.abs(value) < 0.001 ? value.toExponential() : String(value);
}

/** A longer term gets a line of its own, so that descriptions keep most of the width. */
const TERM_WIDTH = 30;

/** Layout of every help text. */
export function helpLayout(style: Style): HelpConfiguration {
  return {
    showGlobalOptions: false,
    styleTitle: style.bold,
    padWidth: (command: Command, helper: Help) =>
      Math.min(
        TERM_WIDTH,
        Math.max(
          helper.longestOptionTermLength(command, helper),
          helper.longestSubcommandTermLength(command, helper),
          helper.longestArgumentTermLength(command, helper),
        ),
      ),
    subcommandTerm: (command: Command) => command.name(),
    formatItem(term: string, termWidth: number, description: string, helper: Help): string {
      const indent = " ".repeat(termWidth + 4);
      const width = Math.max(30, (helper.helpWidth ?? 80) - indent.length);
      const text = helper.boxWrap(description, width).replaceAll("\n", `\n${indent}`);
      const fits = helper.displayWidth(term) <= termWidth;
      return fits ? `  ${term.padEnd(termWidth)}  ${text}` : `  ${term}\n${indent}${text}`;
    },
  };
}

/** Commented examples. */
export function examplesText(examples: readonly Example[], style: Style): string {
  const lines = examples.flatMap(({ comment, command }) => [
    `  ${style.dim(`# ${comment}`)}`,
    `  ${command}`,
    "",
  ]);
  return `${style.bold("Examples:")}\n${lines.join("\n").trimEnd()}\n`;
}

const EXIT_CODE_MEANINGS: Readonly<Record<number, string>> = {
  0: "done",
  1: "a write failed, or a defect of dylora",
  2: "wrong usage, configuration or data",
  3: "a file that cannot be read or does not fit",
  4: "device or memory not available",
  5: "training diverged (a loss was not finite); the last good state is kept",
  130: "interrupted; for train and resume with the state saved",
};

/** The list of exit codes; complete by construction. */
export function exitCodesText(style: Style): string {
  const codes = [...new Set([0, ...Object.values(ERROR_EXIT_CODES)])].sort((a, b) => a - b);
  const lines = codes.map((code) => {
    const meaning = EXIT_CODE_MEANINGS[code];
    if (meaning === undefined)
      throw new DyloraError("E_INTERNAL", `internal: exit code ${code} has no description`);
    return `  ${String(code).padStart(3)}  ${meaning}`;
  });
  return `${style.bold("Exit codes:")}\n${lines.join("\n")}\n`;
}
