import { Command, CommanderError } from "commander";
import { DyloraError } from "../errors.js";
import { readFlags } from "../options/read-options.js";
import { dyloraVersion } from "../version.js";
import type { CommandDefinition } from "./command.js";
import { COMMANDS } from "./commands.js";
import { asDyloraError, printError } from "./errors.js";
import { collectFlags, declareFlags, unifySpelling } from "./flags.js";
import { examplesText, exitCodesText, helpLayout } from "./help.js";
import { listenForInterrupts } from "./interrupt.js";
import { processTerminal, type Terminal } from "./terminal.js";
import { unknownCommand, usageError } from "./usage.js";

/** Runs the program with the process's arguments and sets its exit status. */
export async function main(): Promise<void> {
  process.exitCode = await runCli(process.argv.slice(2), processTerminal());
}

/**
 * Runs one command line.
 *
 * @param args - what follows `dylora`
 * @returns the exit status
 */
export async function runCli(args: readonly string[], terminal: Terminal): Promise<number> {
  try {
    return await dispatch(args, terminal);
  } catch (thrown) {
    const error = asDyloraError(thrown);
    printError(error, terminal.stderr, { json: args.includes("--json"), debug: args.includes("--debug") });
    return error.exitCode;
  }
}

async function dispatch(args: readonly string[], terminal: Terminal): Promise<number> {
  const [first, ...rest] = args;
  if (first === "help") return dispatch(rest.length === 0 ? ["--help"] : [...rest, "--help"], terminal);
  const name = first ?? "--help";
  if (!name.startsWith("-")) {
    const entry = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
    if (entry === undefined) throw unknownCommand(name, Object.keys(COMMANDS));
    return runCommand(await entry.load(), entry.summary, rest, terminal);
  }
  if (["--help", "-h"].includes(name)) {
    terminal.stdout.write(rootHelp(terminal));
    return 0;
  }
  if (["--version", "-V", "-v"].includes(name)) {
    terminal.stdout.write(`${dyloraVersion()}\n`);
    return 0;
  }
  throw new DyloraError("E_USAGE", `unknown option ${name}`, {
    note: "Options follow the command: `dylora COMMAND --option`. `dylora --help` lists the commands.",
  });
}

async function runCommand(
  definition: CommandDefinition,
  summary: string,
  args: readonly string[],
  terminal: Terminal,
): Promise<number> {
  const command = commanderCommand(definition, summary, terminal);
  try {
    command.parse(unifySpelling(args, command), { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode === 0) return 0;
    throw usageError(error, definition);
  }
  const { values, notes } = readFlags(definition, collectFlags(command, definition));
  const { stderr } = terminal;
  const json = args.includes("--json");
  const interruption = listenForInterrupts(() => {
    // With --json stderr is for a program too: it gets an error document or nothing.
    if (json) return;
    stderr.write(`${stderr.isTerminal ? "\n" : ""}${definition.onInterrupt} (Ctrl-C again quits at once)\n`);
  });
  try {
    const context = {
      ...terminal,
      json,
      debug: args.includes("--debug"),
      signal: interruption.signal,
    };
    const status = await definition.run({ positional: command.args, given: values, notes }, context);
    return status ?? 0;
  } catch (error) {
    if (!(interruption.signal.aborted && error instanceof Error && error.name === "AbortError")) throw error;
    throw new DyloraError("E_INTERRUPTED", `${definition.command}: interrupted`, {
      note: "Nothing more was written, and no file is half-written.",
      cause: error,
    });
  } finally {
    interruption.dispose();
  }
}

function commanderCommand(definition: CommandDefinition, summary: string, terminal: Terminal): Command {
  const { stdout } = terminal;
  const command = new Command(`dylora ${definition.command}`)
    .description(definition.details === undefined ? summary : `${summary}\n\n${definition.details}`)
    .usage(`${definition.positional.toUpperCase().replace(/[<>]/g, "")} [options]`.trim())
    .configureHelp(helpLayout(stdout.style))
    .configureOutput({
      writeOut: (text) => stdout.write(text),
      // Complaints arrive as exceptions and are printed in our own form.
      writeErr: () => {},
      getOutHelpWidth: () => Math.min(stdout.columns, 120),
      getOutHasColors: () => true,
    })
    .exitOverride()
    .addHelpText("after", `\n${examplesText(definition.examples, stdout.style)}`);
  if (definition.positional !== "") command.argument(definition.positional, definition.positionalDescription);
  declareFlags(command, definition);
  return command;
}

function rootHelp({ stdout }: Terminal): string {
  const { bold } = stdout.style;
  const width = Math.max(...Object.keys(COMMANDS).map((name) => name.length));
  const commands = Object.entries(COMMANDS).map(
    ([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`,
  );
  return `${bold("Usage:")} dylora COMMAND [options]

DyLoRA for Stable Diffusion: train one LoRA at a maximum rank, take any lower rank out of the same file.

${bold("Commands:")}
${commands.join("\n")}

${bold("Options:")}
  -h, --help     show this help; \`dylora COMMAND --help\` shows a command's
  -V, --version  show the version

Options are written as in sd-scripts (--network_dim) or in kebab case (--network-dim).

${examplesText(
  [
    {
      comment: "train every rank up to 16 in steps of 4",
      command:
        "dylora train --pretrained_model_name_or_path sd15.safetensors --train_data_dir data --network_dim 16 --network_args unit=4",
    },
    {
      comment: "write LoRA files of rank 4 and 8",
      command: "dylora extract output/last.safetensors --ranks 4,8 --out ranks",
    },
    { comment: "show what a file holds", command: "dylora inspect output/last.safetensors" },
  ],
  stdout.style,
)}
${exitCodesText(stdout.style)}`;
}
