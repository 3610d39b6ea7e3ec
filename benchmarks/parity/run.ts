/**
 * Compares this engine with the golden data of an independent implementation.
 *
 *   npm run -s parity -- DIR… [--device cpu|webgpu] [--mode fast|lean] [--gradient_checkpointing] [--mixed_precision fp16] [--tiles]
 *
 * Prints one JSON document with the worst relative error per kind; exits 0 only when every one is within tolerance (ten
 * times that on a GPU, whose float32 functions are less exact; 2e-2 in float16). On the CPU, onnxruntime computes a float16
 * model in float32 and rounds in between.
 */

import { parseArgs } from "node:util";
import { DyloraError } from "../../src/errors.js";
import type { DeviceName } from "../../src/runtime/device.js";
import type { ExecutionMode } from "../../src/runtime/session.js";
import { fail } from "../setting.js";
import { compareWithGolden } from "./compare.js";

try {
  const { values: options, positionals: folders } = parseArgs({
    allowPositionals: true,
    options: {
      device: { type: "string", default: "cpu" },
      mode: { type: "string", default: "fast" },
      gradient_checkpointing: { type: "boolean", default: false },
      mixed_precision: { type: "string", default: "no" },
      tiles: { type: "boolean", default: false },
    },
  });
  if (folders.length === 0) {
    throw new DyloraError("E_USAGE", "parity: no folder given", {
      note: "npm run -s parity -- DIR… [--device cpu|webgpu]",
    });
  }
  const report = await compareWithGolden(folders, {
    device: options.device as DeviceName,
    mode: options.mode as ExecutionMode,
    gradientCheckpointing: options.gradient_checkpointing,
    computeType: options.mixed_precision === "fp16" ? "float16" : "float32",
    tiles: options.tiles,
  });
  console.log(JSON.stringify({ schemaVersion: 1, ...report }, null, 2));
  process.exitCode = report.passed ? 0 : 1;
} catch (error) {
  fail(error);
}
