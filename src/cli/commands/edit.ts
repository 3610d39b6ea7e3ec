import { readFile } from "node:fs/promises";
import path from "node:path";
import { DyloraError } from "../../errors.js";
import { readError } from "../../io/index.js";
import type { ConfigOf, OptionTable } from "../../options/option-spec.js";
import { completeOptions } from "../../options/read-options.js";
import { readHeader } from "../../safetensors/index.js";
import { editedMetadata, editMetadata, type MetadataEdit, metadataChanges } from "../../surgery/edit/edit.js";
import { type CommandContext, defineCommand } from "../command.js";
import { changesText, editDocument, editText, metadataText } from "../edit-output.js";
import { formatBytes } from "../format.js";
import { writeDocument } from "../json.js";
import { ProgressLine } from "../progress-line.js";

const EDIT_OPTIONS = {
  show: {
    type: "boolean",
    default: false,
    group: "Edit",
    common: true,
    description: "print the metadata, and change nothing",
  },
  set: {
    type: "list",
    default: [],
    placeholder: "key=value...",
    group: "Edit",
    common: true,
    alsoCalled: ["add", "metadata"],
    description: "new values",
  },
  set_json: {
    type: "path",
    default: null,
    placeholder: "file",
    group: "Edit",
    common: true,
    alsoCalled: ["from_json"],
    description: "new values from a JSON object of texts; --set wins over it",
    defaultText: "none",
  },
  remove: {
    type: "list",
    default: [],
    placeholder: "key...",
    group: "Edit",
    common: true,
    alsoCalled: ["delete", "unset", "strip"],
    description: "keys to remove; * stands for any characters (quote it: 'ss_dataset_*')",
  },
  in_place: {
    type: "boolean",
    default: false,
    group: "Edit",
    common: true,
    description: "replace the file itself, in one step, once the new one is whole",
  },
  out: {
    type: "path",
    default: null,
    placeholder: "file",
    group: "Edit",
    common: true,
    alsoCalled: ["output", "save_to"],
    description: "file to write",
    defaultText: "none",
  },
  force: {
    type: "boolean",
    default: false,
    group: "Edit",
    common: true,
    alsoCalled: ["overwrite"],
    description: "replace --out where it exists",
  },
  dry_run: {
    type: "boolean",
    default: false,
    group: "Edit",
    common: true,
    description: "show what would change, and write nothing",
  },
} as const satisfies OptionTable;

type Options = ConfigOf<typeof EDIT_OPTIONS>;

export const editCommand = defineCommand({
  command: "edit",
  flagStyle: "kebab",
  positional: "<file>",
  positionalDescription: "any .safetensors file",
  table: EDIT_OPTIONS,
  details:
    "The tensors are copied byte for byte. sshs_model_hash stays as it is, since it does not cover the metadata; sshs_legacy_hash is computed anew.",
  examples: [
    { comment: "look", command: "dylora edit cat.safetensors --show" },
    {
      comment: "a title, and no traces of the folders it was trained on",
      command:
        "dylora edit cat.safetensors --set modelspec.title=Cat --remove 'ss_dataset_*' ss_tag_frequency --in-place",
    },
    {
      comment: "without any metadata, as another file",
      command: "dylora edit cat.safetensors --remove '*' --out bare.safetensors",
    },
  ],
  onInterrupt: "stopping",

  async run({ positional, given }, context) {
    const options = completeOptions({ command: "edit", table: EDIT_OPTIONS }, given, "E_USAGE");
    const file = positional[0] ?? "";
    const edit: MetadataEdit = {
      set: { ...(options.setJson === null ? {} : await readJson(options.setJson)), ...readSet(options.set) },
      remove: options.remove,
    };
    const isEdit = Object.keys(edit.set ?? {}).length > 0 || options.remove.length > 0;
    if (options.show === isEdit) {
      throw usage(
        isEdit ? "--show excludes --set and --remove" : "nothing to do",
        "Give --show, or what to --set and --remove.",
      );
    }
    if (options.show) {
      const { metadata } = await readHeader(file);
      if (context.json) writeDocument(context.stdout, { path: path.resolve(file), metadata });
      else context.stdout.write(metadataText(metadata));
      return undefined;
    }
    if (options.dryRun) await showChanges(file, edit, context);
    else await write(file, edit, options, context);
    return undefined;
  },
});

async function showChanges(
  file: string,
  edit: MetadataEdit,
  { json, stdout }: CommandContext,
): Promise<void> {
  const metadata = (await readHeader(file)).metadata ?? {};
  const changes = metadataChanges(metadata, editedMetadata(metadata, edit, file));
  if (json) writeDocument(stdout, { path: path.resolve(file), changes, dryRun: true });
  else stdout.write(`${changesText(changes)}Nothing was written (--dry-run).\n`);
}

async function write(
  file: string,
  edit: MetadataEdit,
  options: Options,
  { json, stdout, stderr, signal }: CommandContext,
): Promise<void> {
  if (options.inPlace === (options.out !== null)) {
    throw usage(
      options.inPlace ? "--in-place and --out exclude each other" : "it is not said where to write",
      "Give --out FILE, or --in-place to replace the file itself.",
    );
  }
  const line = new ProgressLine(stderr);
  try {
    const report = await editMetadata(file, edit, {
      path: path.resolve(options.out ?? file),
      overwrite: options.force,
      signal,
      onProgress: ({ doneBytes, totalBytes }) =>
        line.update(`copying  ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`),
    });
    line.clear();
    if (json) writeDocument(stdout, editDocument(report));
    else stdout.write(editText(report, stdout));
  } finally {
    line.clear();
  }
}

function readSet(pairs: readonly string[]): Record<string, string> {
  const entries = pairs.map((pair) => {
    const equals = pair.indexOf("=");
    if (equals > 0) return [pair.slice(0, equals), pair.slice(equals + 1)] as const;
    throw usage(
      `--set: ${JSON.stringify(pair)} is no KEY=VALUE`,
      "Quote values with spaces: --set 'title=My cat'.",
    );
  });
  return Object.fromEntries(entries);
}

async function readJson(file: string): Promise<Record<string, string>> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (cause) {
    throw readError(file, cause);
  }
  let values: unknown = null;
  try {
    values = JSON.parse(text);
  } catch {
    // Reported below.
  }
  const isObject = typeof values === "object" && values !== null && !Array.isArray(values);
  if (!isObject || Object.values(values as object).some((value) => typeof value !== "string")) {
    throw usage(`--set-json: ${file} is no JSON object of texts`, 'Example: { "modelspec.title": "Cat" }.');
  }
  return values as Record<string, string>;
}

function usage(problem: string, note: string): DyloraError {
  return new DyloraError("E_USAGE", `edit: ${problem}`, { note: `${note} Nothing was changed.` });
}
