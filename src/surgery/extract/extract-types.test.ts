import { readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { outDir, parentPath, run, useExtractFolder } from "../../../test/helpers/extract-folder.js";
import { everyKindOfModule, writeRandomAdapter } from "../../../test/helpers/random-adapter.js";
import { openAdapter } from "../../adapter/index.js";
import {
  computeModelHash,
  decodeToFloat32,
  encodeFromFloat32,
  writeSafetensors,
} from "../../safetensors/index.js";

useExtractFolder();

describe("another type", () => {
  it.each([
    ["F32", "F16"],
    ["F32", "BF16"],
    ["F64", "F32"],
    ["F16", "F32"],
    ["BF16", "F16"],
    ["F8_E4M3", "BF16"],
  ] as const)("%s to %s: each number rounded to the nearest", async (from, to) => {
    await writeRandomAdapter(parentPath, { dtype: from, modules: everyKindOfModule(8, 3) });
    const { outputs, dtype } = await run({ ranks: [3, 8] }, { dtype: to });
    expect(dtype).toBe(to);
    const converted = new Map<string, Float32Array>();
    await using parent = await openAdapter(parentPath);
    for (const { down, up } of parent.modules) {
      for (const { name } of [down, up]) {
        const bytes = encodeFromFloat32(await parent.file.readFloat32(name), to);
        converted.set(name, decodeToFloat32(bytes, to));
      }
    }
    for (const { rank, path, sizeBytes, dataSha256 } of outputs) {
      await using copy = await openAdapter(path);
      expect(copy.file.sizeBytes).toBe(sizeBytes);
      expect(await computeModelHash(copy.file)).toBe(dataSha256);
      for (const [i, module] of copy.modules.entries()) {
        const whole = parent.modules[i]!;
        const own = Math.min(rank, whole.rank);
        expect(module).toMatchObject({ name: whole.name, rank: own, alpha: 4 });
        expect([module.down.dtype, module.up.dtype, module.alphaTensor?.dtype]).toEqual([to, to, to]);
        const down = converted.get(whole.down.name)!;
        const expectedDown = down.subarray(0, (down.length / whole.rank) * own);
        expect(await copy.file.readFloat32(module.down.name)).toEqual(expectedDown);
        const up = converted.get(whole.up.name)!;
        const expectedUp = up.filter((_, index) => index % whole.rank < own);
        expect(await copy.file.readFloat32(module.up.name)).toEqual(expectedUp);
      }
    }
  });

  it("the same type is a copy, byte for byte", async () => {
    await writeRandomAdapter(parentPath, { dtype: "BF16" });
    const plain = await run({ ranks: [4] });
    const typed = await run({ ranks: [4] }, { dtype: "BF16", overwrite: true });
    expect(typed.outputs[0]!.dataSha256).toBe(plain.outputs[0]!.dataSha256);
  });

  it("tensors larger than a chunk, in a wider type", async () => {
    const tall = {
      name: "lora_unet_tall",
      kind: "linear",
      rank: 3,
      inFeatures: 3,
      outFeatures: 900_001,
    } as const;
    await writeRandomAdapter(parentPath, { modules: [tall], dtype: "F16" });
    const { outputs } = await run({ ranks: [2] }, { dtype: "F32" });
    await using parent = await openAdapter(parentPath);
    await using copy = await openAdapter(outputs[0]!.path);
    const whole = await parent.file.readFloat32("lora_unet_tall.lora_up.weight");
    const up = await copy.file.readFloat32("lora_unet_tall.lora_up.weight");
    const expected = whole.filter((_, index) => index % 3 < 2);
    expect(Buffer.compare(Buffer.from(up.buffer), Buffer.from(expected.buffer))).toBe(0);
  });

  it("refuses a number that it cannot hold, where a copy needs it", async () => {
    const up = { name: "lora_unet_x.lora_up.weight", dtype: "F32", shape: [2, 2] } as const;
    const down = { name: "lora_unet_x.lora_down.weight", dtype: "F32", shape: [2, 2] } as const;
    const write = (values: number[]) =>
      writeSafetensors(
        parentPath,
        [
          { ...down, data: () => encodeFromFloat32(Float32Array.of(1, 2, 3, 4), "F32") },
          { ...up, data: () => encodeFromFloat32(Float32Array.from(values), "F32") },
        ],
        { overwrite: true },
      );
    await write([1, 70_000, 1, 1]);
    await expect(run({ ranks: [1, 2] }, { dtype: "F16" })).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
      message: expect.stringContaining("lora_unet_x.lora_up.weight: the value 70000 is too large for F16"),
      note: expect.stringContaining("--dtype BF16 or F32"),
    });
    expect(readdirSync(outDir)).toEqual([]);
    // Column 2 is not in rank 1; 65519 still rounds to 65504; what is infinite already does not overflow.
    await run({ ranks: [1] }, { dtype: "F16" });
    await write([65_519, Number.NEGATIVE_INFINITY, -65_519, Number.NaN]);
    const { outputs } = await run({ ranks: [2] }, { dtype: "F16" });
    await using copy = await openAdapter(outputs[0]!.path);
    expect([...(await copy.file.readFloat32(up.name))]).toEqual([65504, -Infinity, -65504, Number.NaN]);
  });
});
