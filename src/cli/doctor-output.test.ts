import { expect, test } from "vitest";
import type { DoctorReport } from "../runtime/doctor.js";
import { doctorText } from "./doctor-output.js";
import { styleFor } from "./terminal.js";

const report: DoctorReport = {
  dyloraVersion: "0.1.0",
  node: { version: "20.9.0", minimum: "20.9.0", supported: true },
  system: {
    platform: "linux",
    release: "6.1.0",
    architecture: "x64",
    cpu: "Some CPU @ 2.50GHz",
    logicalCores: 2,
  },
  memory: { totalBytes: 25_300_000_000, availableBytes: 7_000_000_000, limitBytes: 8_000_000_000 },
  disk: { path: "/work", availableBytes: 82_400_000_000 },
  onnxruntime: { version: "1.30.0", problem: null, providers: [{ name: "cpu", bundled: true }] },
  sharp: { version: "0.35.5", problem: null },
  devices: [
    { device: "cpu", works: true, gigaflops: 49.4, float16: false, adapter: null },
    { device: "webgpu", works: true, gigaflops: 0.134, float16: false, adapter: "SwiftShader Device" },
    { device: "cuda", works: false, problem: "its provider library is not installed", remedy: "Install it." },
  ],
};

test("what is there, what works, and how to get the rest", () => {
  expect(doctorText(report, styleFor(false))).toMatchInlineSnapshot(`
    "dylora            0.1.0
    Node.js           20.9.0 (needs 20.9.0 or newer)  ok
    system            linux 6.1.0, x64
    processor         Some CPU @ 2.50GHz, 2 cores
    memory            7.0 GB free of 25.3 GB, limited to 8.0 GB by its container
    disk              82.4 GB free in /work
    onnxruntime-node  1.30.0  ok
    sharp             0.35.5  ok

    Devices
      cpu     yes  49 GFLOP/s in a matrix product (float32)
      webgpu  yes  SwiftShader Device: 0.13 GFLOP/s in a matrix product (float32); no --mixed_precision fp16: the driver does not offer shader-f16
      cuda    no   its provider library is not installed

    What is missing, and how to get it
      cuda: Install it.
    "
  `);
});

test("a GPU that computes in float16", () => {
  const gpu = {
    device: "webgpu",
    works: true,
    gigaflops: 9000,
    float16: true,
    adapter: "NVIDIA H100",
  } as const;
  expect(doctorText({ ...report, devices: [gpu] }, styleFor(false))).toContain(
    "webgpu  yes  NVIDIA H100: 9000 GFLOP/s in a matrix product (float32); --mixed_precision fp16 works",
  );
});

test("packages that cannot be loaded, and an old Node.js", () => {
  const text = doctorText(
    {
      ...report,
      node: { version: "18.0.0", minimum: "20.9.0", supported: false },
      onnxruntime: { version: null, problem: "Cannot find module.", providers: [] },
      devices: [],
    },
    styleFor(false),
  );
  expect(text).toContain("Node.js           18.0.0 (needs 20.9.0 or newer)  too old");
  expect(text).toContain(
    "  Node.js: install version 20.9.0 or newer.\n  onnxruntime-node: Cannot find module.\n",
  );
  expect(text).not.toContain("Devices");
});
