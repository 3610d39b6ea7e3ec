import { expect, test } from "vitest";
import { builtInDevices } from "./device.js";
import { resolveDevice } from "./resolve-device.js";

test("the CPU is taken without a trial", async () => {
  expect(await resolveDevice("cpu")).toEqual({ device: "cpu", passedOver: [], float16: false });
});

test("auto takes a device that works, and says why not the others", { timeout: 300_000 }, async () => {
  const { device, passedOver } = await resolveDevice("auto");
  const builtIn = builtInDevices();
  expect(builtIn).toContain(device);
  if (device !== "cpu") return;
  // Every GPU that this onnxruntime was built for is accounted for, by name.
  expect(passedOver.map((reason) => reason.split(":")[0]).sort()).toEqual(
    builtIn.filter((name) => name !== "cpu").sort(),
  );
});

test("a device that was asked for by name is never replaced by another", { timeout: 300_000 }, async () => {
  for (const device of ["webgpu", "cuda"] as const) {
    const outcome = await resolveDevice(device).catch((error: unknown) => error);
    if (outcome instanceof Error) {
      expect(outcome).toMatchObject({
        code: "E_DEVICE",
        exitCode: 4,
        message: expect.stringContaining(`device ${device} is not available`),
        note: expect.stringContaining("Nothing was run on another device instead."),
      });
    } else {
      expect(outcome).toMatchObject({ device, passedOver: [] });
    }
  }
});
