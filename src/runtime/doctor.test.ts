import os from "node:os";
import path from "node:path";
import { describe, expect, test } from "vitest";
import type { DeviceName } from "./device.js";
import { compareVersions, examineMachine, remedyFor } from "./doctor.js";

/** A machine on which nothing but the CPU works. */
const onlyCpu = async (device: DeviceName) =>
  device === "cpu"
    ? ({ works: true, gigaflops: 50, float16: false, adapter: null } as const)
    : ({ works: false, problem: "No supported adapters" } as const);

describe("examineMachine", () => {
  test("reports versions, sizes and paths of this machine", async () => {
    const report = await examineMachine({ probe: onlyCpu, folder: os.tmpdir() });
    expect(report.node).toEqual({ version: process.versions.node, minimum: "20.9.0", supported: true });
    expect(report.system).toMatchObject({ platform: os.platform(), architecture: os.arch() });
    expect(report.memory.totalBytes).toBe(os.totalmem());
    expect(report.memory.availableBytes).toBeGreaterThan(0);
    expect(report.memory.availableBytes).toBeLessThanOrEqual(os.totalmem());
    expect(report.disk.path).toBe(path.resolve(os.tmpdir()));
    expect(report.disk.availableBytes).toBeGreaterThan(0);
    expect(report.onnxruntime).toMatchObject({
      problem: null,
      version: expect.stringMatching(/^1\.\d+\.\d+$/),
    });
    expect(report.onnxruntime.providers).toContainEqual({ name: "cpu", bundled: true });
    expect(report.sharp).toMatchObject({ problem: null, version: expect.stringMatching(/^\d+\.\d+\.\d+/) });
  });

  test("every device is there, with the reason and the remedy where it does not work", async () => {
    const { devices } = await examineMachine({ probe: onlyCpu });
    expect(devices.map(({ device }) => device)).toEqual(["cpu", "webgpu", "cuda"]);
    expect(devices[0]).toEqual({ device: "cpu", works: true, gigaflops: 50, float16: false, adapter: null });
    for (const report of devices.slice(1)) {
      expect(report).toMatchObject({ works: false, remedy: remedyFor(report.device) });
    }
  });

  test("a device without its files is not tried", async () => {
    const tried: string[] = [];
    const { devices } = await examineMachine({
      probe: async (device) => {
        tried.push(device);
        return { works: true, gigaflops: 1, float16: false, adapter: null };
      },
    });
    const missing = devices.filter(({ works }) => !works).map(({ device }) => device);
    expect(tried.filter((device) => (missing as string[]).includes(device))).toEqual([]);
    expect([...tried, ...missing].sort()).toEqual(["cpu", "cuda", "webgpu"]);
  });

  test("a folder that is not there has no disk to report", async () => {
    const { disk } = await examineMachine({ probe: onlyCpu, folder: "/no/such/folder" });
    expect(disk).toEqual({ path: path.resolve("/no/such/folder"), availableBytes: null });
  });
});

test.each([
  ["20.9.0", "20.9.0", 0],
  ["20.20.2", "20.9.0", 1],
  ["18.20.0", "20.9.0", -1],
  ["21", "20.9.0", 1],
])("%s against %s", (a, b, sign) => expect(Math.sign(compareVersions(a, b))).toBe(sign));
