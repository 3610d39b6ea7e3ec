import type { Severity, VerifyProblem, VerifyReport } from "../surgery/verify/verify.js";
import { formatPath, formatQuantity } from "./format.js";
import { printable } from "./printable.js";
import type { OutputStream } from "./terminal.js";

/** Modules or tensors of a problem that are named; `--json` has all. */
const NAMED = 3;

const KINDS: Readonly<Record<NonNullable<VerifyReport["kind"]>, string>> = {
  adapter: "LoRA",
  checkpoint: "base model",
  tensors: "safetensors file",
};

/** One line on the file, and one for each problem. */
export function verifyText(report: VerifyReport, out: OutputStream): string {
  const { kind, counts, ok, moduleCount, tensorCount } = report;
  const { bold, green, red } = out.style;
  const what = kind === null ? "no safetensors file" : KINDS[kind];
  const size =
    moduleCount > 0 ? formatQuantity(moduleCount, "module") : formatQuantity(tensorCount, "tensor");
  const verdict = ok ? green("ok") : red("not in order");
  const found = (["error", "warning"] as const)
    .filter((severity) => counts[severity] > 0)
    .map((severity) => `, ${formatQuantity(counts[severity], severity)}`);
  const head = `${bold(formatPath(report.path))}: ${verdict} (${what}, ${size})${found.join("")}\n`;
  return head + report.problems.map((problem) => problemText(problem, out)).join("");
}

function problemText({ severity, code, message, subjects }: VerifyProblem, out: OutputStream): string {
  const names = subjects.slice(0, NAMED).map(printable);
  const more = subjects.length - names.length;
  const list = names.length === 0 ? "" : `    ${names.join(", ")}${more > 0 ? ` and ${more} more` : ""}\n`;
  return `  ${title(severity, out)}[${code}]: ${printable(message)}\n${list}`;
}

function title(severity: Severity, { style }: OutputStream): string {
  if (severity === "error") return style.red("error");
  return severity === "warning" ? style.yellow("warning") : style.dim("note");
}
