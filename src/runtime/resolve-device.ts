/** Turns `--device auto` into a device. */

import { DyloraError } from "../errors.js";
import { builtInDevices, type DeviceChoice, type DeviceName, deviceUnavailable } from "./device.js";
import { type DeviceProbe, probeDevice } from "./probe.js";

export interface ResolvedDevice {
  readonly device: DeviceName;
  /** Why `auto` passed over the others; empty when a device was named. */
  readonly passedOver: readonly string[];
  /** Whether it computes in float16. */
  readonly float16: boolean;
}

/**
 * The device to use: the one that is named, or for `auto` the one that multiplies matrices fastest. (A GPU driver in software,
 * which many Linux machines have, works and is slower than the CPU.)
 *
 * @throws {DyloraError} `E_DEVICE` when a device that was named does not work here
 */
export async function resolveDevice(choice: DeviceChoice, signal?: AbortSignal): Promise<ResolvedDevice> {
  const builtIn = builtInDevices();
  if (choice === "cpu") return { device: "cpu", passedOver: [], float16: false };
  const probe = (device: DeviceName) => probeDevice(device, signal === undefined ? {} : { signal });
  if (choice !== "auto") {
    if (!builtIn.includes(choice)) {
      throw deviceUnavailable(choice, new Error("this build of onnxruntime-node does not contain it"));
    }
    const result = await probe(choice);
    if (!result.works) throw deviceUnavailable(choice, new Error(result.problem));
    return { device: choice, passedOver: [], float16: result.float16 };
  }

  const passedOver: string[] = [];
  const gpus: { device: DeviceName; gigaflops: number; float16: boolean }[] = [];
  for (const device of builtIn.filter((name) => name !== "cpu")) {
    const result = await probe(device);
    if (result.works) gpus.push({ device, ...result });
    else passedOver.push(`${device}: ${result.problem}`);
  }
  const fastest = gpus.sort((a, b) => b.gigaflops - a.gigaflops)[0];
  if (fastest === undefined) return { device: "cpu", passedOver, float16: false };
  const cpu = await probe("cpu");
  if (!cpu.works) throw new DyloraError("E_DEVICE", `device cpu is not available: ${cpu.problem}`);
  return fastest.gigaflops > cpu.gigaflops
    ? { device: fastest.device, passedOver, float16: fastest.float16 }
    : { device: "cpu", passedOver: [...passedOver, slower(fastest, cpu)], float16: false };
}

function slower(gpu: { device: DeviceName; gigaflops: number }, cpu: DeviceProbe & { works: true }): string {
  return `${gpu.device}: slower than the CPU here (${gpu.gigaflops.toFixed(0)} against ${cpu.gigaflops.toFixed(0)} GFLOP/s)`;
}
