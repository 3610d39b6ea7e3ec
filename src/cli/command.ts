import type { ConfigOf, OptionTable } from "../options/option-spec.js";
import type { ForeignOptions, OptionSet } from "../options/read-options.js";
import type { OutputStream, Terminal } from "./terminal.js";

/** A command of the program: what it takes, as data, and what it does with it. */
export interface CommandDefinition<Table extends OptionTable = OptionTable> extends OptionSet<Table> {
  /** Positional arguments in commander's notation, for example `<file...>`; "" for none. */
  readonly positional: string;
  /** What the positional argument is, for the help. */
  readonly positionalDescription?: string;
  readonly foreign?: ForeignOptions;
  /**
   * How flags are shown: `sd-scripts` as `--network_dim`, `kebab` as `--alpha-rule`. Both are taken everywhere. Commands
   * that sd-scripts users know by other names have no reason for its spelling.
   */
  readonly flagStyle: "sd-scripts" | "kebab";
  /** Paragraph below the summary in the help. */
  readonly details?: string;
  /** Three commented examples. */
  readonly examples: readonly Example[];
  /** What is said when the user interrupts the command for the first time. */
  readonly onInterrupt: string;
  /** @returns the exit status where it is not 0 */
  run(invocation: Invocation<Table>, context: CommandContext): Promise<number | undefined>;
}

export interface Example {
  readonly comment: string;
  readonly command: string;
}

/** What was typed, read and checked option by option. */
export interface Invocation<Table extends OptionTable> {
  readonly positional: readonly string[];
  /** The options that were given; without defaults. */
  readonly given: Partial<ConfigOf<Table>>;
  /** What the user should know about ignored options. */
  readonly notes: readonly string[];
}

export interface CommandContext extends Terminal {
  readonly json: boolean;
  readonly debug: boolean;
  /** Aborted by the first Ctrl-C. */
  readonly signal: AbortSignal;
}

/** Declares a command; exists for the type inference of its table. */
export function defineCommand<Table extends OptionTable>(
  definition: CommandDefinition<Table>,
): CommandDefinition<Table> {
  return definition;
}

/** Something worth knowing that stops nothing. */
export function printNote(stderr: OutputStream, note: string): void {
  stderr.write(`${stderr.style.yellow("note")}: ${note}\n`);
}

/** Notes on options that are ignored. With --json stderr is for a program: it gets an error document or nothing. */
export function printNotes(notes: readonly string[], { json, stderr }: CommandContext): void {
  if (!json) for (const note of notes) printNote(stderr, note);
}

/** An option's flag as the command shows it: `--network_dim`, `--alpha-rule`. */
export function flagOf(name: string, { flagStyle }: Pick<CommandDefinition, "flagStyle">): string {
  return `--${flagStyle === "kebab" ? name.replaceAll("_", "-") : name}`;
}
