/**
 * Tries a device with a small computation.
 *
 * It runs in a process of its own: a broken graphics driver may abort the process that touches it or never answer, and
 * neither may happen to a training run or to `dylora doctor`.
 */
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { Graph } from "../graph/graph.js";
import { lowerToOnnx } from "../graph/onnx/lower.js";
import { cast } from "../graph/ops/elementwise.js";
import { matmul } from "../graph/ops/matmul.js";
import { sum } from "../graph/ops/reduce.js";
import { type DeviceName, providerOptions } from "./device.js";

export type DeviceProbe =
  /**
   * The result was right. `gigaflops`: speed of a float32 matrix product, in 10^9 operations a second. `float16`: whether
   * it computes in float16 too (on WebGPU the optional feature `shader-f16`; never on the CPU, which only converts).
   */
  | {
      readonly works: true;
      readonly gigaflops: number;
      readonly float16: boolean;
      /** The GPU's name as its driver has it; null where nobody says. */
      readonly adapter: string | null;
    }
  /** It could not be used, or the result was wrong. */
  | { readonly works: false; readonly problem: string };

export interface ProbeOptions {
  /** Default 60,000: a driver in software compiles its shaders for seconds. */
  timeoutMs?: number;
  signal?: AbortSignal;
}

/**
 * Sides of the matrices, tried one after the other: small ones are over soon on a device in software, large ones show
 * what a GPU can do. Powers of two, so that products of constants are exact.
 */
const SIZES = [128, 512, 1024] as const;
/** The next size is tried only where a run of this one took less. */
const QUICK_SECONDS = 0.05;
/** Products in one run: enough that a GPU is not measured by its transfers alone. */
const PRODUCTS = 4;
/** Timed runs of a size; the fastest counts. */
const TIMED_RUNS = 3;

/** Runs in the child: reads a job from stdin, writes an outcome to stdout. */
const CHILD_SOURCE = `
const ort = require(process.argv[1]);
let text = "";
process.stdin.on("data", (part) => { text += part; }).on("end", async () => {
  const job = JSON.parse(text);
  let outcome;
  try {
    const session = await ort.InferenceSession.create(Buffer.from(job.model, "base64"), job.options);
    for (const size of job.sizes) {
      const values = new Float32Array(size * size).fill(1 / size);
      const feeds = { x: new ort.Tensor("float32", values, [size, size]) };
      const value = (await session.run(feeds)).y.data[0];
      let seconds = Infinity;
      for (let run = 0; run < job.runs; run++) {
        const start = performance.now();
        await session.run(feeds);
        seconds = Math.min(seconds, (performance.now() - start) / 1000);
      }
      outcome = { size, value, seconds };
      if (value !== size || seconds > job.quickSeconds) break;
    }
    outcome.float16 = false;
    if (job.halfModel) {
      try {
        const half = await ort.InferenceSession.create(Buffer.from(job.halfModel, "base64"), job.options);
        const feeds = { x: new ort.Tensor("float32", new Float32Array(4).fill(0.5), [2, 2]) };
        outcome.float16 = (await half.run(feeds)).y.data[0] === 2;
      } catch {}
    }
  } catch (error) {
    outcome = { problem: error.message };
  }
  process.stdout.write(JSON.stringify(outcome));
});
`;

/** Whether `device` can compute here, and how fast. Never throws for a device that cannot. */
export async function probeDevice(device: DeviceName, options: ProbeOptions = {}): Promise<DeviceProbe> {
  const { timeoutMs = 60_000, signal } = options;
  const { executionProviders, sessionConfig } = providerOptions(device);
  const job = {
    model: Buffer.from(probeModel("float32")).toString("base64"),
    halfModel: device === "cpu" ? null : Buffer.from(probeModel("float16")).toString("base64"),
    options: { executionProviders, logSeverityLevel: 3, extra: { session: sessionConfig } },
    sizes: SIZES,
    runs: TIMED_RUNS,
    quickSeconds: QUICK_SECONDS,
  };
  const child = spawn(process.execPath, ["-e", CHILD_SOURCE, runtimePath()], {
    stdio: ["pipe", "pipe", "pipe"],
    // The Vulkan loader names the GPU that a device is made of; onnxruntime does not.
    ...(device === "webgpu" ? { env: { VK_LOADER_DEBUG: "driver", ...process.env } } : {}),
    ...(signal === undefined ? {} : { signal }),
  });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (part: Buffer) => {
    stdout += part.toString();
  });
  child.stderr.on("data", (part: Buffer) => {
    stderr += part.toString();
  });
  // A child that dies at once closes its stdin before the job is written; its end says more than EPIPE.
  child.stdin.on("error", () => {});
  child.stdin.end(JSON.stringify(job));

  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill("SIGKILL");
  }, timeoutMs);
  try {
    const ending = await new Promise<string>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code, killedBy) =>
        resolve(killedBy === null ? `exit status ${code}` : `signal ${killedBy}`),
      );
    });
    if (timedOut) return { works: false, problem: `no answer within ${timeoutMs / 1000} s` };
    return readOutcome(stdout, ending, stderr);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Reads what the child wrote. A driver that crashes while the process ends does no harm once there is a result.
 *
 * @param ending - how the process ended
 */
export function readOutcome(stdout: string, ending: string, stderr: string): DeviceProbe {
  if (stdout === "") {
    const lines = stderr.split("\n").filter((line) => line.trim() !== "" && !LOADER_LINE.test(line));
    const lastLine = lines.at(-1) ?? "";
    const detail = lastLine === "" ? "" : `: ${lastLine}`;
    return { works: false, problem: `the driver ended the process that tried it (${ending})${detail}` };
  }
  const outcome = JSON.parse(stdout) as
    | { size: number; value: number; seconds: number; float16: boolean }
    | { problem: string };
  if ("problem" in outcome) return { works: false, problem: essence(outcome.problem) };
  const { size, value, seconds, float16 } = outcome;
  if (value !== size)
    return { works: false, problem: `it computes wrong results (${value} instead of ${size})` };
  return {
    works: true,
    gigaflops: (PRODUCTS * 2 * size ** 3) / seconds / 1e9,
    float16,
    adapter: adapterIn(stderr),
  };
}

/** What VK_LOADER_DEBUG=driver prints. */
const LOADER_LINE = /^([A-Z]+ \| )?DRIVER:/;

/** `DRIVER:  Using "NVIDIA H100" with driver: "libGLX_nvidia.so.0"`, the last device that was made. */
function adapterIn(stderr: string): string | null {
  const names = [...stderr.matchAll(/DRIVER:\s+Using "(.+)" with driver:/g)];
  return names.at(-1)?.[1] ?? null;
}

/** `x · x · x …`, summed up: with `x = 1/n` everywhere every product is `1/n` again and the sum is `n`. */
function probeModel(type: "float32" | "float16"): Uint8Array {
  const graph = new Graph();
  const x = graph.input("x", "float32", ["n", "n"]);
  const factor = cast(graph, x, type);
  let product = factor;
  for (let index = 0; index < PRODUCTS; index++) product = matmul(graph, product, factor);
  return lowerToOnnx(graph, { y: sum(graph, cast(graph, product, "float32"), [0, 1]) }).bytes;
}

function runtimePath(): string {
  return createRequire(import.meta.url).resolve("onnxruntime-node");
}

/** onnxruntime puts the place in its source and the failed condition before what happened. */
function essence(problem: string): string {
  const firstLine = problem.trim().split("\n", 1)[0] ?? "";
  return firstLine.replace(/^.* was false\. /, "");
}
