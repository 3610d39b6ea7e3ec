import type { CommanderError } from "commander";
import { DyloraError } from "../errors.js";
import { nearestName, nearestOption } from "../options/nearest-name.js";
import { type CommandDefinition, flagOf } from "./command.js";

/** Options that every command has. */
const EVERY_COMMAND = ["json", "debug", "help"];

/** commander's complaint in the form of every other error, with what was probably meant. */
export function usageError(error: CommanderError, definition: CommandDefinition): DyloraError {
  const { command, table } = definition;
  const quoted = /'([^']*)'/.exec(error.message)?.[1] ?? "";
  switch (error.code) {
    case "commander.unknownOption": {
      const flag = quoted.split("=", 1)[0] ?? quoted;
      const name = flag.replace(/^-+/, "").replaceAll("-", "_");
      const nearest = nearestOption(name, table, EVERY_COMMAND);
      return usage(
        command,
        `unknown option ${flag}`,
        nearest === null ? null : `Did you mean ${flagOf(nearest, definition)}?`,
      );
    }
    case "commander.optionMissingArgument": {
      const flag = quoted.split(" ", 1)[0] ?? quoted;
      return usage(command, `${flag} needs a value`, null);
    }
    case "commander.missingArgument":
      return usage(command, `${quoted.toUpperCase()} is missing`, null);
    case "commander.excessArguments":
      return usage(command, lowerFirst(error.message.replace(/^error: /, "")), null);
    default:
      return usage(command, lowerFirst(error.message.replace(/^error: /, "")), null);
  }
}

/** @param known - names of all commands */
export function unknownCommand(name: string, known: readonly string[]): DyloraError {
  const nearest = nearestName(name, known);
  return new DyloraError("E_USAGE", `unknown command ${name}`, {
    note:
      nearest === null
        ? `Commands: ${known.join(", ")}. \`dylora --help\` describes them.`
        : `Did you mean \`dylora ${nearest}\`?`,
  });
}

function usage(command: string, message: string, suggestion: string | null): DyloraError {
  const help = `\`dylora ${command} --help\` lists every option.`;
  return new DyloraError("E_USAGE", `${command}: ${message}`, {
    note: suggestion === null ? help : `${suggestion} ${help}`,
  });
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
