/** A command as it can be typed again. */

import { camelCase, type OptionSpec, type OptionTable } from "../options/option-spec.js";
import { type CommandDefinition, flagOf } from "./command.js";
import { formatPath, quoteArgument } from "./format.js";

/**
 * The command line with these arguments and options, in the table's order; options that are null are left out.
 *
 * @param given - values by their camelCase names, as `Invocation.given` has them
 */
export function commandLine<Table extends OptionTable>(
  definition: Pick<CommandDefinition<Table>, "command" | "flagStyle" | "table">,
  positional: readonly string[],
  given: Readonly<Record<string, unknown>>,
): string {
  const words = ["dylora", definition.command, ...positional];
  for (const [name, spec] of Object.entries<OptionSpec>(definition.table)) {
    const value = given[camelCase(name)];
    if (value === undefined || value === null) continue;
    if (spec.type === "boolean") words.push(value === true ? flagOf(name, definition) : `--no_${name}`);
    else words.push(flagOf(name, definition), ...valueWords(spec, value));
  }
  return words.map(quoteArgument).join(" ");
}

function valueWords(spec: OptionSpec, value: unknown): string[] {
  switch (spec.type) {
    case "path":
      return [formatPath(String(value))];
    case "list":
      return (value as readonly string[]).slice();
    case "integers":
    case "numbers":
      return [(value as readonly number[]).join(",")];
    case "resolution": {
      const { width, height } = value as { width: number; height: number };
      return [width === height ? String(width) : `${width},${height}`];
    }
    default:
      return [String(value)];
  }
}
