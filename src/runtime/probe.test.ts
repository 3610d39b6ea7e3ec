import { expect, test } from "vitest";
import { probeDevice, readOutcome } from "./probe.js";

test("the CPU computes the right result, at more than a crawl", async () => {
  const probe = await probeDevice("cpu");
  expect(probe).toEqual({ works: true, gigaflops: expect.any(Number), float16: false, adapter: null });
  expect(probe.works && probe.gigaflops).toBeGreaterThan(0.1);
});

test("a device that does not answer in time is given up", async () => {
  expect(await probeDevice("cpu", { timeoutMs: 1 })).toEqual({
    works: false,
    problem: "no answer within 0.001 s",
  });
});

test("an abort ends the attempt", async () => {
  const controller = new AbortController();
  const attempt = probeDevice("cpu", { signal: controller.signal });
  controller.abort();
  await expect(attempt).rejects.toMatchObject({ name: "AbortError" });
});

test("a result counts even if the driver crashes afterwards", () => {
  const stdout = JSON.stringify({ size: 1024, value: 1024, seconds: 0.1, float16: true });
  expect(readOutcome(stdout, "signal SIGSEGV", "")).toEqual({
    works: true,
    gigaflops: expect.closeTo(85.9, 1),
    float16: true,
    adapter: null,
  });
});

test("the Vulkan loader's words name the GPU, and are no reason for a failure", () => {
  const loader = [
    "INFO | DRIVER:               [0] Some Other GPU",
    'DRIVER:                  Using "NVIDIA H100 80GB HBM3" with driver: "libGLX_nvidia.so.0"',
    "",
  ].join("\n");
  const stdout = JSON.stringify({ size: 128, value: 128, seconds: 0.1, float16: false });
  expect(readOutcome(stdout, "exit status 0", loader)).toMatchObject({ adapter: "NVIDIA H100 80GB HBM3" });
  expect(readOutcome("", "signal SIGABRT", `terminate called\n${loader}`)).toMatchObject({
    problem: "the driver ended the process that tried it (signal SIGABRT): terminate called",
  });
});

test("a driver that ends the process is a device that does not work", () => {
  expect(readOutcome("", "signal SIGABRT", "loading\nterminate called\n")).toEqual({
    works: false,
    problem: "the driver ended the process that tried it (signal SIGABRT): terminate called",
  });
});

test("a wrong result is no result", () => {
  const stdout = JSON.stringify({ size: 128, value: 0, seconds: 0.1 });
  expect(readOutcome(stdout, "exit status 0", "")).toEqual({
    works: false,
    problem: "it computes wrong results (0 instead of 128)",
  });
});

test("onnxruntime's own words are cut down to what happened", () => {
  const problem =
    "/onnxruntime_src/webgpu_context.cc:136 onnxruntime::webgpu::Initialize() adapter_result.status == Success was false. Failed to get a WebGPU adapter: No supported adapters\nmore";
  expect(readOutcome(JSON.stringify({ problem }), "exit status 0", "")).toEqual({
    works: false,
    problem: "Failed to get a WebGPU adapter: No supported adapters",
  });
});
