import type { DeviceReport, DoctorReport, PackageReport } from "../runtime/doctor.js";
import { formatBytes, formatQuantity } from "./format.js";
import { renderFields } from "./table.js";
import type { Style } from "./terminal.js";

/** What a machine has, and below it what is missing and how to get it. */
export function doctorText(report: DoctorReport, style: Style): string {
  const { node, system, memory, disk, onnxruntime, sharp } = report;
  const mark = (good: boolean, otherwise = "missing") => (good ? style.green("ok") : style.red(otherwise));
  const limit =
    memory.limitBytes === null ? "" : `, limited to ${formatBytes(memory.limitBytes)} by its container`;
  const facts = renderFields([
    ["dylora", report.dyloraVersion],
    ["Node.js", `${node.version} (needs ${node.minimum} or newer)  ${mark(node.supported, "too old")}`],
    ["system", `${system.platform} ${system.release}, ${system.architecture}`],
    ["processor", `${system.cpu}, ${formatQuantity(system.logicalCores, "core")}`],
    ["memory", `${formatBytes(memory.availableBytes)} free of ${formatBytes(memory.totalBytes)}${limit}`],
    ["disk", `${disk.availableBytes === null ? "?" : formatBytes(disk.availableBytes)} free in ${disk.path}`],
    ["onnxruntime-node", packageText(onnxruntime, mark)],
    ["sharp", packageText(sharp, mark)],
  ]);
  const devices = renderFields(
    report.devices.map((device) => [device.device, deviceText(device, style)]),
    "  ",
  );
  const remedies = remedyLines(report);
  return [
    facts,
    report.devices.length === 0 ? "" : `\n${style.bold("Devices")}\n${devices}`,
    remedies.length === 0
      ? ""
      : `\n${style.bold("What is missing, and how to get it")}\n${remedies.join("\n")}\n`,
  ].join("");
}

function packageText({ version, problem }: PackageReport, mark: (good: boolean) => string): string {
  return problem === null ? `${version ?? "installed"}  ${mark(true)}` : mark(false);
}

function deviceText(report: DeviceReport, style: Style): string {
  if (!report.works) return `${style.yellow("no")}   ${report.problem}`;
  const { device, gigaflops, float16, adapter } = report;
  const name = adapter === null ? "" : `${adapter}: `;
  const speed = `${formatGigaflops(gigaflops)} GFLOP/s in a matrix product (float32)`;
  return `${style.green("yes")}  ${name}${speed}${device === "cpu" ? "" : float16Text(device, float16)}`;
}

function float16Text(device: string, float16: boolean): string {
  if (float16) return "; --mixed_precision fp16 works";
  const missing = device === "webgpu" ? "the driver does not offer shader-f16" : "no float16";
  return `; no --mixed_precision fp16: ${missing}`;
}

function formatGigaflops(value: number): string {
  return value >= 10 ? value.toFixed(0) : value.toPrecision(2);
}

function remedyLines(report: DoctorReport): string[] {
  const { node, onnxruntime, sharp } = report;
  return [
    ...(node.supported ? [] : [`  Node.js: install version ${node.minimum} or newer.`]),
    ...(onnxruntime.problem === null ? [] : [`  onnxruntime-node: ${onnxruntime.problem}`]),
    ...(sharp.problem === null ? [] : [`  sharp: ${sharp.problem}`]),
    ...report.devices.flatMap((device) => (device.works ? [] : [`  ${device.device}: ${device.remedy}`])),
  ];
}
