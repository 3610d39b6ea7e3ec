import { statSync } from "node:fs";
import { basename } from "node:path";
import type { OptionTable } from "../../options/option-spec.js";
import { completeOptions } from "../../options/read-options.js";
import type { AdapterReport, InspectOptions } from "../../surgery/index.js";
import { inspectAdapter } from "../../surgery/inspect/inspect.js";
import { type CommandContext, defineCommand } from "../command.js";
import { asDyloraError, printError } from "../errors.js";
import { writeDocument } from "../json.js";
import { ProgressLine } from "../progress-line.js";

const INSPECT_OPTIONS = {
  norms: {
    type: "boolean",
    default: false,
    group: "Inspect",
    common: true,
    description:
      "compute norms and the energy of every rank even where that takes long; --no-norms never does",
  },
  spectrum: {
    type: "boolean",
    default: false,
    group: "Inspect",
    common: true,
    description: "compute singular values: which ranks are used, and what each is worth at best",
  },
  modules: {
    type: "boolean",
    default: false,
    group: "Inspect",
    common: true,
    description: "list every module",
  },
  tensors: {
    type: "boolean",
    default: false,
    group: "Inspect",
    common: true,
    description: "list every tensor",
  },
  metadata: {
    type: "boolean",
    default: false,
    group: "Inspect",
    common: true,
    description: "show the whole metadata",
  },
  verify_hash: {
    type: "boolean",
    default: false,
    group: "Inspect",
    common: true,
    description: "read all data and compare their hash with the stored one",
  },
} as const satisfies OptionTable;

export const inspectCommand = defineCommand({
  command: "inspect",
  flagStyle: "kebab",
  positional: "<file...>",
  positionalDescription: "LoRA files, or a folder of them for a table",
  table: INSPECT_OPTIONS,
  details:
    "Only the header is read, except for norms: those of a file of moderate size are computed unasked.",
  examples: [
    { comment: "what is this file?", command: "dylora inspect cat.safetensors" },
    { comment: "its training settings", command: "dylora inspect cat.safetensors --metadata" },
    {
      comment: "everything about several files, for a script",
      command: "dylora inspect *.safetensors --norms --json",
    },
  ],
  onInterrupt: "stopping",

  async run({ positional, given }, context) {
    const shown = completeOptions({ command: "inspect", table: INSPECT_OPTIONS }, given, "E_USAGE");
    const reports: object[] = [];
    const folders: object[] = [];
    let status = 0;
    for (const path of positional) {
      try {
        const folder = await folderOfFiles(path, context);
        if (folder !== null) {
          folders.push(folder);
          continue;
        }
        const report = await inspect(path, given.norms, shown.verifyHash, context);
        const spectrum = shown.spectrum ? await readSpectrumOf(path, context) : null;
        if (!context.json) {
          const { inspectText } = await import("../inspect-output.js");
          context.stdout.write(inspectText(report, shown, context.stdout));
          if (spectrum !== null) context.stdout.write(spectrum.text(shown.modules));
        }
        reports.push(spectrum === null ? report : { ...report, spectrum: spectrum.report });
      } catch (thrown) {
        const error = asDyloraError(thrown);
        // One file of many that cannot be read should not hide the others.
        if (positional.length === 1 || context.signal.aborted) throw error;
        printError(error, context.stderr, { json: context.json, debug: context.debug });
        status ||= error.exitCode;
      }
    }
    if (context.json) {
      writeDocument(context.stdout, { files: reports, ...(folders.length === 0 ? {} : { folders }) });
    }
    return status;
  },
});

// What only some calls need is loaded when it is needed: it takes as long as reading a header.

/** The table of a folder that is no adapter itself, printed; null for anything else. */
async function folderOfFiles(path: string, { json, stdout, signal }: CommandContext): Promise<object | null> {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) return null;
  const { inspectFolder } = await import("../../surgery/inspect/inspect-folder.js");
  const report = await inspectFolder(path, { signal });
  // PEFT and diffusers save an adapter as a folder; a folder without files is for `openAdapter` to complain about.
  const isAdapter = report.files.some(({ path: file }) => ADAPTER_FILES.has(basename(file)));
  if (isAdapter || report.files.length === 0) return null;
  const { folderText } = await import("../inspect-folder-output.js");
  if (!json) stdout.write(folderText(report, stdout));
  return report;
}

/** What PEFT and diffusers call the file in an adapter's folder. */
const ADAPTER_FILES: ReadonlySet<string> = new Set([
  "adapter_model.safetensors",
  "pytorch_lora_weights.safetensors",
]);

async function readSpectrumOf(path: string, { stdout, stderr, signal }: CommandContext) {
  const { openAdapter } = await import("../../adapter/index.js");
  const { readSpectrum } = await import("../../surgery/svd/spectrum.js");
  const { spectrumText } = await import("../spectrum-output.js");
  const line = new ProgressLine(stderr);
  const adapter = await openAdapter(path, { foreign: "keep" });
  try {
    const report = await readSpectrum(adapter, {
      signal,
      onProgress: ({ doneModules, totalModules }) =>
        line.update(`singular values  ${doneModules}/${totalModules} modules`),
    });
    return { report, text: (modules: boolean) => spectrumText(report, modules, stdout) };
  } finally {
    line.clear();
    await adapter.close();
  }
}

/** Products of numbers that are multiplied within about a second. */
const QUICK_PRODUCTS = 3e8;

/** @param norms - what was asked for; undefined: where it is quick */
async function inspect(
  path: string,
  norms: boolean | undefined,
  verifyHash: boolean,
  context: CommandContext,
): Promise<AdapterReport> {
  const line = new ProgressLine(context.stderr);
  const options: InspectOptions = {
    verifyHash,
    signal: context.signal,
    onProgress: ({ doneModules, totalModules }) =>
      line.update(`norms  ${doneModules}/${totalModules} modules`),
  };
  try {
    if (norms !== undefined) return await inspectAdapter(path, { ...options, norms });
    const header = await inspectAdapter(path);
    const quick = normProducts(header) <= QUICK_PRODUCTS;
    return quick || verifyHash ? await inspectAdapter(path, { ...options, norms: quick }) : header;
  } finally {
    line.clear();
  }
}

/** Multiplications that the norms of a file take: two triangles of rank x rank products of long rows. */
function normProducts({ modules }: AdapterReport): number {
  return modules.reduce((sum, { rank, parameters }) => sum + (rank * parameters) / 2, 0);
}
