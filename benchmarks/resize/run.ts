/**
 * Resizes a full-size LoRA of SD 1.5 and compares with a full SVD of every product in PyTorch, in time and in error.
 *
 *   npm run -s benchmark:resize -- [--rank 128] [--to 32] [--rounds 3] [--sample 1] [--full-matrices] [--json]
 *
 * dylora's time is that of a whole process, from its start to the file on the disk. PyTorch's is that of the products and their
 * decompositions alone, on as many threads as there are cores, with `full_matrices=False`: `--full-matrices` computes what
 * sd-scripts does. `--sample n` decomposes every n-th module only and extrapolates by size. Results are appended to
 * `benchmarks/results/resize.jsonl`.
 */

import { execFile, fork } from "node:child_process";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { formatBytes } from "../../src/cli/format.js";
import { writeDocument } from "../../src/cli/json.js";
import { renderFields } from "../../src/cli/table.js";
import { processTerminal } from "../../src/cli/terminal.js";
import { DyloraError, internalError } from "../../src/errors.js";
import { fullSizeAdapter, SD15_TARGETS } from "../extract/random-adapter.js";
import {
  appendResult,
  besideModule,
  cacheFolder,
  fail,
  median,
  packageFolder,
  setting,
  wholeNumber,
} from "../setting.js";
import type { ResizeFigures, ResizeJob } from "./resize-once.js";

interface ModuleFigures {
  readonly name: string;
  readonly outputs: number;
  readonly inputs: number;
  readonly seconds: number;
  /** `‖P - P'‖ / ‖P‖` of PyTorch's factors, in float16, and of dylora's. */
  readonly error: number;
  readonly resizedError: number;
}

interface FullSvd {
  readonly torch: string;
  readonly threads: number;
  readonly modules: readonly ModuleFigures[];
}

/** Both files are rounded to float16, each in its own way: errors this close are equal. */
const EQUAL_ERRORS = 1e-4;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rank: { type: "string", default: "128" },
      to: { type: "string", default: "32" },
      rounds: { type: "string", default: "3" },
      sample: { type: "string", default: "1" },
      python: { type: "string", default: "/usr/bin/python3" },
      "full-matrices": { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    },
  });
  const [rank, to] = [wholeNumber("rank", values.rank, 2), wholeNumber("to", values.to, 1)];
  const sample = wholeNumber("sample", values.sample, 1);
  const rounds = wholeNumber("rounds", values.rounds, 1);
  const parentPath = await fullSizeAdapter(rank, 1);
  const here = setting();
  const folder = await mkdtemp(join(cacheFolder(), "resize-"));
  try {
    const job: ResizeJob = { parentPath, rank: to, outPath: join(folder, "resized.safetensors") };
    const times: (ResizeFigures & { wallSeconds: number })[] = [];
    for (let round = 0; round < rounds; round++) times.push(await timeResize(job));
    const svd = await fullSvd(values.python, job, sample, values["full-matrices"]);
    const wallSeconds = median(times.map((time) => time.wallSeconds));
    const fullSvdSeconds = extrapolate(svd.modules, sample);
    const ratios = svd.modules.map(({ error, resizedError }) => resizedError / error - 1);
    const result = {
      ...here,
      parent: { rank, modules: SD15_TARGETS.length, sizeBytes: (await stat(parentPath)).size },
      to,
      medianWallSeconds: wallSeconds,
      medianLibrarySeconds: median(times.map((time) => time.librarySeconds)),
      peakBytes: Math.max(...times.map((time) => time.peakBytes)),
      wallSeconds: times.map((time) => time.wallSeconds),
      fullSvd: {
        torch: svd.torch,
        threads: svd.threads,
        fullMatrices: values["full-matrices"],
        measuredModules: svd.modules.length,
        extrapolated: sample > 1,
        seconds: fullSvdSeconds,
      },
      timesFaster: fullSvdSeconds / wallSeconds,
      errors: {
        /** Relative to PyTorch's error of the same module; negative: dylora's is smaller. */
        worstExcess: Math.max(...ratios),
        meanExcess: ratios.reduce((sum, ratio) => sum + ratio, 0) / ratios.length,
        worseModules: ratios.filter((ratio) => ratio > EQUAL_ERRORS).length,
        largest: Math.max(...svd.modules.map(({ resizedError }) => resizedError)),
      },
    };
    await appendResult("resize", { schemaVersion: 1, ...result });
    const { stdout } = processTerminal();
    if (values.json) {
      writeDocument(stdout, result);
      return;
    }
    const { errors } = result;
    stdout.write(
      renderFields([
        ["parent", `rank ${rank}, ${SD15_TARGETS.length} modules, ${formatBytes(result.parent.sizeBytes)}`],
        ["dylora resize", `${wallSeconds.toFixed(2)} s to rank ${to} (median of ${rounds}, whole process)`],
        [
          "full SVD",
          `${fullSvdSeconds.toFixed(1)} s (PyTorch ${svd.torch}, ${svd.threads} threads${sample > 1 ? `, extrapolated from ${svd.modules.length} modules` : ""})`,
        ],
        ["times faster", result.timesFaster.toFixed(1)],
        ["peak memory", formatBytes(result.peakBytes)],
        [
          "errors",
          `${errors.worseModules} of ${svd.modules.length} modules worse than PyTorch's; worst excess ${errors.worstExcess.toExponential(1)}`,
        ],
      ]),
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function timeResize(job: ResizeJob): Promise<ResizeFigures & { wallSeconds: number }> {
  const began = performance.now();
  const child = fork(besideModule(import.meta.url, "resize-once"), [JSON.stringify(job)]);
  const figures = await new Promise<ResizeFigures>((resolve, reject) => {
    let received: ResizeFigures | null = null;
    child.on("message", (message) => {
      received = message as ResizeFigures;
    });
    child.on("error", reject);
    child.on("close", (status) => {
      if (status === 0 && received !== null) resolve(received);
      else reject(internalError(`the resize ended with status ${status}`));
    });
  });
  const wallSeconds = (performance.now() - began) / 1000;
  console.error(
    `resize ${wallSeconds.toFixed(2)} s, of which ${figures.librarySeconds.toFixed(2)} s in the library`,
  );
  return { ...figures, wallSeconds };
}

async function fullSvd(
  python: string,
  { parentPath, outPath, rank }: ResizeJob,
  sample: number,
  fullMatrices: boolean,
): Promise<FullSvd> {
  const script = join(packageFolder(), "benchmarks", "resize", "full_svd.py");
  const args = [script, parentPath, outPath, String(rank), "--sample", String(sample)];
  if (fullMatrices) args.push("--full-matrices");
  const running = promisify(execFile)(python, args, { maxBuffer: 64 << 20 });
  running.child.stderr?.pipe(process.stderr);
  try {
    return JSON.parse((await running).stdout) as FullSvd;
  } catch (cause) {
    throw new DyloraError("E_NOT_FOUND", `benchmark:resize: ${python} could not run PyTorch`, {
      note: "Name a Python that has torch and numpy with --python.",
      cause,
    });
  }
}

/** Seconds for all modules: those that were measured, and for the others what a module of the same size took. */
function extrapolate(measured: readonly ModuleFigures[], sample: number): number {
  const total = measured.reduce((sum, { seconds }) => sum + seconds, 0);
  if (sample === 1) return total;
  const flops = ({ outputs, inputs }: { outputs: number; inputs: number }) =>
    outputs * inputs * Math.min(outputs, inputs);
  const bySize = new Map<number, number[]>();
  for (const module of measured) {
    const size = flops(module);
    bySize.set(size, [...(bySize.get(size) ?? []), module.seconds]);
  }
  const perFlop = total / measured.reduce((sum, module) => sum + flops(module), 0);
  return SD15_TARGETS.reduce((sum, { outFeatures, inFeatures }) => {
    const size = flops({ outputs: outFeatures, inputs: inFeatures });
    const own = bySize.get(size);
    return sum + (own === undefined ? size * perFlop : median(own));
  }, 0);
}

main().catch(fail);
