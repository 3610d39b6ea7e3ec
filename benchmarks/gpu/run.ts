/**
 * What a GPU does: doctor, parity and training steps at full size, in float32 and mixed precision.
 *
 *   npm run -s benchmark:gpu -- [--device webgpu|cuda|cpu] [--golden DIR]… [--out FOLDER] [--resolutions 256,512]
 *     [--ranks 16,128] [--precisions no,fp16] [--steps 8]
 *
 * Or on another machine, from the folder that `pack.ts` made: `run.sh` with the same options. Writes `gpu.json` into
 * `--out` (default: the working directory), anew after every part: a run that is cut off leaves what it had.
 */

import { execFile, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs, promisify } from "node:util";
import type { DeviceName } from "../../src/runtime/device.js";
import { examineMachine } from "../../src/runtime/doctor.js";
import { besideModule, choice, fail, packageFolder, setting, wholeNumber } from "../setting.js";
import { CONFIGURATION_OPTIONS, describe, readConfiguration } from "../train-step/configuration.js";
import { measureConfiguration } from "../train-step/measurement.js";

const PRECISIONS = ["no", "fp16"] as const;
type Precision = (typeof PRECISIONS)[number];

interface Options {
  readonly device: DeviceName;
  readonly golden: readonly string[];
  readonly out: string;
  readonly resolutions: readonly number[];
  readonly ranks: readonly number[];
  readonly precisions: readonly Precision[];
  readonly steps: number;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      device: { type: "string", default: "webgpu" },
      golden: { type: "string", multiple: true },
      out: { type: "string", default: "." },
      resolutions: { type: "string", default: "256,512" },
      ranks: { type: "string", default: "16,128" },
      precisions: { type: "string", default: "no,fp16" },
      steps: { type: "string", default: "8" },
    },
  });
  const numbers = (name: "resolutions" | "ranks") =>
    values[name].split(",").map((value) => wholeNumber(name, value, 1));
  return {
    device: choice("device", values.device, ["webgpu", "cuda", "cpu"]),
    golden: (values.golden ?? packedGolden()).map((folder) => resolve(folder)),
    out: resolve(values.out),
    resolutions: numbers("resolutions"),
    ranks: numbers("ranks"),
    precisions: values.precisions.split(",").map((value) => choice("precisions", value, PRECISIONS)),
    // 0: no steps, parity alone.
    steps: wholeNumber("steps", values.steps, 0),
  };
}

/** The golden data that lies in a packed folder. */
function packedGolden(): string[] {
  const folder = join(packageFolder(), "golden");
  return existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [];
}

async function main(): Promise<void> {
  const options = readOptions();
  const { device, golden, out, resolutions, ranks, precisions, steps } = options;
  mkdirSync(out, { recursive: true });
  const log = (text: string) => console.error(text);
  const result = {
    schemaVersion: 1,
    ...setting(),
    gpu: nvidiaGpu(),
    doctor: await examineMachine({ onProgress: log }),
    parity: [] as object[],
    steps: [] as object[],
  };
  const write = () => writeFileSync(join(out, "gpu.json"), `${JSON.stringify(result, null, 2)}\n`);
  write();

  for (const precision of golden.length === 0 ? [] : precisions) {
    log(`parity on ${device}, mixed precision ${precision}`);
    result.parity.push({ mixedPrecision: precision, ...(await parity(golden, device, precision)) });
    write();
  }
  for (const resolution of steps === 0 ? [] : resolutions) {
    for (const rank of ranks) {
      for (const mixedPrecision of precisions) {
        const configuration = {
          ...readConfiguration(defaultConfiguration()),
          ...{ device, resolution, rank, mixedPrecision, steps },
        };
        const memory = new GpuMemory();
        const outcome = await measureConfiguration(configuration, (text) =>
          log(`${describe(configuration)}: ${text}`),
        );
        result.steps.push({ configuration, gpuPeakBytes: memory.end(), ...outcome });
        write();
      }
    }
  }
  console.log(join(out, "gpu.json"));
}

function defaultConfiguration(): Parameters<typeof readConfiguration>[0] {
  return parseArgs({ args: [], options: CONFIGURATION_OPTIONS }).values;
}

/** In a process of its own: a driver may abort it. */
async function parity(golden: readonly string[], device: DeviceName, precision: Precision): Promise<object> {
  const script = besideModule(import.meta.url, join("..", "parity", "run"));
  const args = [script, ...golden, "--device", device, "--mixed_precision", precision];
  const began = performance.now();
  const seconds = () => (performance.now() - began) / 1000;
  try {
    const { stdout } = await promisify(execFile)(process.execPath, args);
    return { seconds: seconds(), report: JSON.parse(stdout) };
  } catch (error) {
    // Exit status 1 with a report: a tolerance was not met.
    const {
      stdout = "",
      stderr = "",
      message,
    } = error as { stdout?: string; stderr?: string; message: string };
    return stdout.startsWith("{")
      ? { seconds: seconds(), report: JSON.parse(stdout) }
      : { seconds: seconds(), failure: stderr || message };
  }
}

/** Name, driver and memory as nvidia-smi has them; null without it. */
function nvidiaGpu(): string | null {
  try {
    const args = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"];
    return execFileSync("nvidia-smi", args, { encoding: "utf8" }).trim();
  } catch {
    return null;
  }
}

/** The most memory that was in use on the GPU, asked for twice a second; null without nvidia-smi. */
class GpuMemory {
  #peakBytes: number | null = null;
  readonly #child = spawn(
    "nvidia-smi",
    ["--query-gpu=memory.used", "--format=csv,noheader,nounits", "--loop-ms=500"],
    { stdio: ["ignore", "pipe", "ignore"] },
  );

  constructor() {
    this.#child.on("error", () => {});
    this.#child.stdout.on("data", (text: Buffer) => {
      for (const mebibytes of text.toString().trim().split("\n").map(Number)) {
        this.#peakBytes = Math.max(this.#peakBytes ?? 0, mebibytes * 2 ** 20);
      }
    });
  }

  end(): number | null {
    this.#child.kill();
    return this.#peakBytes;
  }
}

await main().catch(fail);
