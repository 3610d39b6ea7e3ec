import { readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { contents, runConvert as run } from "../../../test/helpers/convert-adapter.js";
import { everyKindOfModule, writeRandomAdapter } from "../../../test/helpers/random-adapter.js";
import { tempFolder } from "../../../test/helpers/temp-folder.js";
import { openAdapter } from "../../adapter/index.js";

let folder: string;
beforeEach(async () => {
  folder = await tempFolder();
});

describe("the target", () => {
  let source: string;
  beforeEach(async () => {
    source = join(folder, "cat.safetensors");
    await writeRandomAdapter(source, { modules: everyKindOfModule(2) });
  });
  const names = async () => (await readdir(folder, { recursive: true })).sort();

  it("stays if it exists, unless it is to be replaced", async () => {
    const file = join(folder, "out.safetensors");
    await writeFile(file, "mine");
    await expect(run(source, "diffusers", file)).rejects.toMatchObject({ code: "E_EXISTS" });
    expect(await readFile(file, "utf8")).toBe("mine");
    await run(source, "diffusers", file, { overwrite: true });
    await using written = await openAdapter(file);
    expect(written.dialect).toBe("diffusers");

    const peft = join(folder, "peft");
    await run(source, "peft", peft);
    const before = await contents(peft);
    await expect(run(source, "peft", peft)).rejects.toMatchObject({ code: "E_EXISTS" });
    await writeRandomAdapter(source, { modules: everyKindOfModule(2), seed: 9 });
    await run(source, "peft", peft, { overwrite: true });
    const after = await contents(peft);
    expect(Object.keys(after)).toEqual(Object.keys(before));
    expect(after["/unet/adapter_model.safetensors"]).not.toEqual(before["/unet/adapter_model.safetensors"]);
    expect((await readdir(folder)).sort()).toEqual(["cat.safetensors", "out.safetensors", "peft"]);
  });

  it("is no folder with anything else in it, even then", async () => {
    const peft = join(folder, "peft");
    await run(source, "peft", peft);
    await writeFile(join(peft, "unet", "README.md"), "mine");
    await expect(run(source, "peft", peft, { overwrite: true })).rejects.toMatchObject({
      code: "E_EXISTS",
      message: expect.stringContaining(join("unet", "README.md")),
    });
    expect(await readFile(join(peft, "unet", "README.md"), "utf8")).toBe("mine");
    await writeFile(join(folder, "file"), "mine");
    await expect(run(source, "peft", join(folder, "file"), { overwrite: true })).rejects.toMatchObject({
      code: "E_EXISTS",
    });
  });

  it("is not the source, nor the folder that it is in", async () => {
    await symlink(source, join(folder, "link.safetensors"));
    await expect(
      run(source, "diffusers", join(folder, "link.safetensors"), { overwrite: true }),
    ).rejects.toMatchObject({
      code: "E_EXISTS",
    });
    const peft = join(folder, "peft");
    await run(source, "peft", peft);
    await expect(run(peft, "peft", peft, { overwrite: true })).rejects.toThrow(
      "it is in the folder that would be written",
    );
    await expect(run(join(peft, "unet"), "peft", peft, { overwrite: true })).rejects.toMatchObject({
      code: "E_EXISTS",
    });
  });

  it("is not there when the work is stopped, or the folder is missing", async () => {
    for (const to of ["diffusers", "peft"] as const) {
      const controller = new AbortController();
      const options = { signal: controller.signal, onProgress: () => controller.abort() };
      await expect(run(source, to, join(folder, "out"), options)).rejects.toMatchObject({
        code: "E_INTERRUPTED",
      });
      await expect(run(source, to, join(folder, "no", "out"))).rejects.toMatchObject({ code: "E_WRITE" });
    }
    expect(await names()).toEqual(["cat.safetensors"]);
  });
});
