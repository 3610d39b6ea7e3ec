/** What this machine can run on, which versions are installed, what is missing and how to get it. */
import { existsSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { dyloraVersion } from "../version.js";
import type { DeviceName } from "./device.js";
import type { DeviceProbe, ProbeOptions } from "./probe.js";

export interface DoctorReport {
  readonly dyloraVersion: string;
  readonly node: { readonly version: string; readonly minimum: string; readonly supported: boolean };
  readonly system: {
    readonly platform: string;
    readonly release: string;
    readonly architecture: string;
    readonly cpu: string;
    readonly logicalCores: number;
  };
  readonly memory: {
    readonly totalBytes: number;
    readonly availableBytes: number;
    /** Limit that a container sets; null where there is none. */
    readonly limitBytes: number | null;
  };
  /** Of the folder that was asked about. */
  readonly disk: { readonly path: string; readonly availableBytes: number | null };
  readonly onnxruntime: PackageReport & {
    /** Execution providers that the installed binary knows by name; `bundled` ones need no further files. */
    readonly providers: readonly { readonly name: string; readonly bundled: boolean }[];
  };
  readonly sharp: PackageReport;
  readonly devices: readonly DeviceReport[];
}

export interface PackageReport {
  readonly version: string | null;
  /** Why it cannot be loaded, and how that is repaired; null where it can. */
  readonly problem: string | null;
}

export type DeviceReport = { readonly device: DeviceName } & (
  | {
      readonly works: true;
      readonly gigaflops: number;
      readonly float16: boolean;
      readonly adapter: string | null;
    }
  | { readonly works: false; readonly problem: string; readonly remedy: string }
);

export interface DoctorOptions {
  /** Folder whose disk is reported; default the working directory. */
  readonly folder?: string;
  readonly onProgress?: (task: string) => void;
  readonly signal?: AbortSignal;
  /** Tries a device; default `probeDevice`. */
  readonly probe?: (device: DeviceName, options: ProbeOptions) => Promise<DeviceProbe>;
}

/** As `engines` in package.json: `process.versions` and the file system calls that are used exist since then. */
const MINIMUM_NODE = "20.9.0";

const require = createRequire(import.meta.url);

/** Examines the machine. Takes as long as the devices take to answer; throws only when aborted. */
export async function examineMachine(options: DoctorOptions = {}): Promise<DoctorReport> {
  const folder = path.resolve(options.folder ?? ".");
  const onnxruntime = await examineOnnxruntime();
  return {
    dyloraVersion: dyloraVersion(),
    node: {
      version: process.versions.node,
      minimum: MINIMUM_NODE,
      supported: compareVersions(process.versions.node, MINIMUM_NODE) >= 0,
    },
    system: {
      platform: os.platform(),
      release: os.release(),
      architecture: os.arch(),
      cpu: os.cpus()[0]?.model.trim() ?? "unknown",
      logicalCores: os.availableParallelism(),
    },
    memory: { totalBytes: os.totalmem(), availableBytes: availableMemory(), limitBytes: memoryLimit() },
    disk: { path: folder, availableBytes: await diskSpace(folder) },
    onnxruntime,
    sharp: await examineSharp(),
    devices: onnxruntime.problem === null ? await examineDevices(onnxruntime.providers, options) : [],
  };
}

/** Compares `20.9.0` with `20.20.2`: negative, 0 or positive. */
export function compareVersions(a: string, b: string): number {
  const left = a.split(".").map(Number);
  const right = b.split(".").map(Number);
  for (let index = 0; index < Math.max(left.length, right.length); index++) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

async function examineOnnxruntime(): Promise<DoctorReport["onnxruntime"]> {
  try {
    const { listSupportedBackends } = await import("onnxruntime-node");
    const providers = listSupportedBackends().map(({ name, bundled }) => ({ name, bundled }));
    const { version } = require("onnxruntime-node/package.json") as { version: string };
    return { version, problem: null, providers };
  } catch (error) {
    return { version: null, problem: loadProblem("onnxruntime-node", error), providers: [] };
  }
}

async function examineSharp(): Promise<PackageReport> {
  try {
    const { default: sharp } = await import("sharp");
    return { version: sharp.versions.sharp ?? null, problem: null };
  } catch (error) {
    return { version: null, problem: loadProblem("sharp", error) };
  }
}

/** Native packages fail in two ways that users meet: installed for another platform, or not installed at all. */
function loadProblem(name: string, error: unknown): string {
  const reason = error instanceof Error ? (error.message.trim().split("\n", 1)[0] ?? "") : String(error);
  return `${reason}. Its binary is made for one platform: run \`npm install\` again on this machine (${os.platform()}-${os.arch()}) instead of copying node_modules from another one; \`npm ls ${name}\` shows what is there.`;
}

function onnxruntimeFolder(): string {
  return path.dirname(require.resolve("onnxruntime-node/package.json"));
}

async function examineDevices(
  providers: DoctorReport["onnxruntime"]["providers"],
  options: DoctorOptions,
): Promise<DeviceReport[]> {
  const probe = options.probe ?? (await import("./probe.js")).probeDevice;
  const reports: DeviceReport[] = [];
  // One after the other: they would slow each other down and be measured wrong.
  for (const device of ["cpu", "webgpu", "cuda"] as const) {
    const missing = missingReason(device, providers);
    if (missing !== null) {
      reports.push({ device, works: false, problem: missing, remedy: remedyFor(device) });
      continue;
    }
    options.onProgress?.(`trying ${device}`);
    const outcome = await probe(device, options.signal === undefined ? {} : { signal: options.signal });
    reports.push(outcome.works ? { device, ...outcome } : { device, ...outcome, remedy: remedyFor(device) });
  }
  return reports;
}

/** Why a device need not be tried at all. */
function missingReason(
  device: DeviceName,
  providers: DoctorReport["onnxruntime"]["providers"],
): string | null {
  if (!providers.some(({ name }) => name === device)) {
    return `onnxruntime-node has no ${device} on ${os.platform()}-${os.arch()}`;
  }
  if (device === "cuda" && !existsSync(cudaProviderPath())) return "its provider library is not installed";
  return null;
}

function cudaProviderPath(): string {
  return path.join(
    onnxruntimeFolder(),
    "bin",
    "napi-v6",
    os.platform(),
    os.arch(),
    "libonnxruntime_providers_cuda.so",
  );
}

/** How to get a device. */
export function remedyFor(device: DeviceName): string {
  switch (device) {
    case "cpu":
      return "Install onnxruntime-node again: `npm install onnxruntime-node`.";
    case "webgpu":
      return WEBGPU_REMEDIES[os.platform()] ?? "WebGPU exists for Linux x64, Windows and macOS.";
    case "cuda":
      return os.platform() === "linux" && os.arch() === "x64"
        ? `With an NVIDIA GPU, its driver, CUDA 12 and cuDNN 9, onnxruntime's own installer downloads the library: \`node ${path.relative(".", path.join(onnxruntimeFolder(), "script", "install.js"))} --onnxruntime-node-install=cuda12\`.`
        : "The CUDA provider exists for Linux x64 only; use webgpu here.";
  }
}

const WEBGPU_REMEDIES: Readonly<Record<string, string>> = {
  linux:
    "WebGPU needs the Vulkan loader (Debian, Ubuntu: `apt-get install libvulkan1`) and the GPU's Vulkan driver (NVIDIA's own; for AMD and Intel `mesa-vulkan-drivers`). A container also needs the driver's file (`nvidia_icd.json`): NVIDIA_DRIVER_CAPABILITIES=all, or VK_DRIVER_FILES=FILE. To try it without a GPU: `mesa-vulkan-drivers` of a recent Mesa (lavapipe; 25 works, 22 is too old), or SwiftShader, which Debian's chromium brings along, with VK_DRIVER_FILES=/usr/lib/chromium/vk_swiftshader_icd.json.",
  win32: "WebGPU needs a Direct3D 12 driver: update the graphics driver.",
  darwin: "WebGPU needs Metal, which every supported macOS has: update macOS.",
};

/** Free memory that could be used without swapping. */
function availableMemory(): number {
  const limit = memoryLimit();
  const free = os.freemem();
  return limit === null ? free : Math.min(free, Math.max(0, limit - process.memoryUsage.rss()));
}

function memoryLimit(): number | null {
  const limit = process.constrainedMemory?.() ?? 0;
  // 0 or a number above what the machine has stands for "no limit".
  return limit > 0 && limit < os.totalmem() ? limit : null;
}

async function diskSpace(folder: string): Promise<number | null> {
  try {
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  } catch {
    return null;
  }
}
