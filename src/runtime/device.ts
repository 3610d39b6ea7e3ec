/** The devices that onnxruntime-node can run a graph on. */

import { type InferenceSession, listSupportedBackends } from "onnxruntime-node";
import { DyloraError } from "../errors.js";

/** A device as a user names it. */
export const DEVICE_CHOICES = ["auto", "cpu", "webgpu", "cuda"] as const;
export type DeviceChoice = (typeof DEVICE_CHOICES)[number];
/** A device that runs something. */
export type DeviceName = Exclude<DeviceChoice, "auto">;

/** Name of the device's execution provider in onnxruntime's reports. */
export const EXECUTION_PROVIDER: Readonly<Record<DeviceName, string>> = {
  cpu: "CPUExecutionProvider",
  webgpu: "WebGpuExecutionProvider",
  cuda: "CUDAExecutionProvider",
};

/** The devices that the installed onnxruntime binary was built for; whether they work is another question. */
export function builtInDevices(): DeviceName[] {
  const names = new Set(listSupportedBackends().map((backend) => backend.name));
  return (["cuda", "webgpu", "cpu"] as const).filter((name) => names.has(name));
}

/**
 * The type to multiply float16 tensors in. WebGPU's kernels would round after every addition, and the CPU computes in float32 in
 * any case (its float16 is for tests); CUDA's kernels add up in float32.
 */
export function halfProductType(device: DeviceName): "float16" | "float32" {
  return device === "cuda" ? "float16" : "float32";
}

/** Session options that put every node on `device`, and fail instead of falling back to the CPU. */
export function providerOptions(device: DeviceName): {
  executionProviders: InferenceSession.ExecutionProviderConfig[];
  sessionConfig: Record<string, string>;
} {
  if (device === "cpu") return { executionProviders: ["cpu"], sessionConfig: {} };
  return {
    executionProviders: [device],
    sessionConfig: { disable_cpu_ep_fallback: "1" },
  };
}

/** The error for mixed precision on a device that has no float16. */
export function float16Unavailable(device: DeviceName): DyloraError {
  const reason =
    device === "cpu"
      ? "onnxruntime's CPU kernels compute in float32, and converting would only cost time"
      : "its driver does not offer float16 arithmetic (WebGPU's feature shader-f16)";
  return new DyloraError("E_DEVICE", `mixed precision fp16 is not available on ${device}: ${reason}`, {
    note: "Nothing was started. Leave --mixed_precision out, or choose a --device that has float16: `dylora doctor` shows which.",
  });
}

/** The error for a device that was asked for by name and does not work. */
export function deviceUnavailable(device: DeviceName, cause: unknown): DyloraError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  const remedy =
    device === "cuda"
      ? "CUDA needs onnxruntime-node's own installer: `dylora doctor` shows the command."
      : "WebGPU needs a Vulkan, Metal or Direct3D 12 driver: `dylora doctor` shows what this machine has.";
  return new DyloraError("E_DEVICE", `device ${device} is not available: ${reason}`, {
    note: `Nothing was run on another device instead. ${remedy} Use --device cpu to run on the CPU.`,
    cause,
  });
}
