import { readFile } from "node:fs/promises";
import path from "node:path";
import { parse, TomlError } from "smol-toml";
import { DyloraError } from "../errors.js";
import { readError, systemErrorCode } from "../io/file-error.js";
import { nearestOption } from "./nearest-name.js";
import type { OptionTable } from "./option-spec.js";
import { type GivenOption, type GivenOptions, type OptionSet, readTypedOptions } from "./read-options.js";

/**
 * Reads a TOML file whose keys are option names, as sd-scripts' `--config_file`: sections only group keys and are
 * flattened, `network_dim` and `network-dim` are the same key, the suffix `.toml` may be left out.
 *
 * @throws E_NOT_FOUND, E_READ; E_CONFIG for bad TOML, an unknown key, a key given twice or a value of the wrong type
 */
export async function readConfigFile<Table extends OptionTable>(
  set: OptionSet<Table>,
  filePath: string,
): Promise<GivenOptions<Table>> {
  const { text, foundPath } = await readText(set.command, filePath);
  const document = parseToml(set.command, text, foundPath);
  const label = path.basename(foundPath);
  const lines = keyLines(text);
  const options = new Map<string, GivenOption>();
  for (const [key, value] of flatten(set.command, document, label)) {
    const name = key.replaceAll("-", "_");
    const place = lines.has(key) ? `${label}, line ${lines.get(key)}` : label;
    if (!(name in set.table) && !(name in (set.foreign ?? {}))) throw unknownKey(set, key, place);
    if (options.has(name)) {
      throw new DyloraError("E_CONFIG", `${set.command}: key ${name} is given twice (${place})`, {
        note: "Sections only group keys, so a key may stand in one of them only.",
      });
    }
    options.set(name, { name, value, label: `${name} (${place})` });
  }
  return readTypedOptions(set, [...options.values()]);
}

async function readText(command: string, filePath: string): Promise<{ text: string; foundPath: string }> {
  const candidates = filePath.endsWith(".toml") ? [filePath] : [filePath, `${filePath}.toml`];
  for (const candidate of candidates) {
    try {
      return { text: await readFile(candidate, "utf8"), foundPath: candidate };
    } catch (cause) {
      if (systemErrorCode(cause) !== "ENOENT") throw readError(candidate, cause);
    }
  }
  throw new DyloraError("E_NOT_FOUND", `${command}: there is no config file ${candidates.join(" or ")}`);
}

function parseToml(command: string, text: string, filePath: string): Record<string, unknown> {
  try {
    return parse(text) as Record<string, unknown>;
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    const reason = cause.message.split("\n", 1)[0]?.replace("Invalid TOML document: ", "");
    throw new DyloraError(
      "E_CONFIG",
      `${command}: ${filePath} is not valid TOML: ${reason} (line ${cause.line}, column ${cause.column})`,
      { note: cause.codeblock.trimEnd().replaceAll("\n", "\n  "), cause },
    );
  }
}

/** Every key with its value; tables are entered, lists are values. */
function* flatten(
  command: string,
  table: Record<string, unknown>,
  label: string,
): Generator<[string, unknown]> {
  for (const [key, value] of Object.entries(table)) {
    if (Array.isArray(value) && value.some(isTable)) {
      throw new DyloraError(
        "E_CONFIG",
        `${command}: [[${key}]] in ${label} is a list of tables, not an option`,
        {
          note: "Dataset descriptions of that form are not read; name the parent folder of <repeats>_<class> folders as train_data_dir.",
        },
      );
    }
    if (isTable(value)) yield* flatten(command, value, label);
    else yield [key, value];
  }
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** Line of the first assignment to each bare or quoted key; smol-toml itself gives lines for syntax errors only. */
function keyLines(text: string): Map<string, number> {
  const lines = new Map<string, number>();
  text.split("\n").forEach((line, index) => {
    const key = /^\s*["']?([\w-]+)["']?\s*=/.exec(line)?.[1];
    if (key !== undefined && !lines.has(key)) lines.set(key, index + 1);
  });
  return lines;
}

function unknownKey(set: OptionSet, key: string, place: string): DyloraError {
  const nearest = nearestOption(key, set.table, Object.keys(set.foreign ?? {}));
  return new DyloraError("E_CONFIG", `${set.command}: unknown key ${key} (${place})`, {
    note:
      nearest === null ? `\`dylora ${set.command} --help\` lists every option.` : `Did you mean ${nearest}?`,
  });
}
