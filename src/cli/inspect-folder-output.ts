import { basename } from "node:path";
import type { Range } from "../surgery/index.js";
import type { AdapterSummary, FolderReport, UnreadableFile } from "../surgery/inspect/inspect-folder.js";
import { formatBytes, formatPath, formatQuantity } from "./format.js";
import { printable } from "./printable.js";
import { renderTable } from "./table.js";
import type { OutputStream } from "./terminal.js";

const MODEL_NAMES = { sd1: "SD 1.x", sd2: "SD 2.x", sdxl: "SDXL" } as const;

/** A folder of adapters, one line per file; below it the files that are none. */
export function folderText({ path, files }: FolderReport, out: OutputStream): string {
  const adapters = files.filter((file): file is AdapterSummary => !("error" in file));
  const others = files.filter((file): file is UnreadableFile => "error" in file);
  const table = renderTable<AdapterSummary>(
    adapters,
    [
      { title: "file", value: (file) => printable(basename(file.path)), shorten: true },
      { title: "size", align: "right", value: ({ fileSizeBytes }) => formatBytes(fileSizeBytes) },
      { title: "base", value: ({ baseModel }) => (baseModel === null ? "?" : MODEL_NAMES[baseModel]) },
      { title: "kind", value: kindText },
      { title: "rank", align: "right", value: ({ ranks }) => rangeText(ranks) },
      { title: "alpha", align: "right", value: ({ alphas }) => rangeText(alphas) },
      { title: "modules", align: "right", value: ({ modules }) => String(modules) },
      { title: "type", value: ({ dtypes }) => dtypes.join(", ") },
      { title: "names", value: ({ dialect }) => dialect },
    ],
    out,
  );
  const skipped = others.map(
    ({ error, ...file }) =>
      `${out.style.dim(printable(basename(file.path)))}  ${error.code}: ${printable(reason(file.path, error.message))}\n`,
  );
  return [
    `${out.style.bold(formatPath(path))}: ${formatQuantity(adapters.length, "adapter")}\n`,
    adapters.length === 0 ? "" : table,
    others.length === 0 ? "" : `\n${out.style.bold("Other files")}\n${skipped.join("")}`,
    "\n",
  ].join("");
}

function kindText({ isDylora, modules, foreignModules }: AdapterSummary): string {
  const plain = modules === 0 ? [] : [isDylora ? "DyLoRA" : "LoRA"];
  return [...plain, ...(foreignModules === 0 ? [] : [`${foreignModules} other`])].join(" + ");
}

/** The message without the path, which stands before it. */
function reason(path: string, message: string): string {
  const at = message.indexOf(path);
  return at < 0 ? message : message.slice(at + path.length).replace(/^[:\s]+/, "");
}

function rangeText(range: Range | null): string {
  if (range === null) return "-";
  const [min, max] = [range.min, range.max].map((value) => String(Number(value.toPrecision(4))));
  return min === max ? min! : `${min}-${max}`;
}
