import { join } from "node:path";
import { expect, test } from "vitest";
import { everyKindOfModule, writeRandomAdapter } from "../../../test/helpers/random-adapter.js";
import { tempFolder } from "../../../test/helpers/temp-folder.js";
import { openAdapter } from "../../adapter/index.js";
import { ModuleReader } from "./read-module.js";

async function randomAdapter() {
  const path = join(await tempFolder(), "cat.safetensors");
  await writeRandomAdapter(path, { modules: everyKindOfModule(7, 3), alpha: 2 });
  return openAdapter(path);
}

test("modules are read as they are in the file, several at a time, into memory that is used again", async () => {
  await using adapter = await randomAdapter();
  const reader = new ModuleReader(adapter);
  const memory = new Set<ArrayBufferLike>();
  const readPairs = async () => {
    for (const [i, first] of adapter.modules.entries()) {
      const second = adapter.modules[(i + 1) % adapter.modules.length]!;
      await reader.with(adapter, first, (a) =>
        reader.with(adapter, second, async (b) => {
          for (const [module, bytes] of [
            [first, a],
            [second, b],
          ] as const) {
            memory.add(bytes.down.buffer);
            expect(bytes.rank).toBe(module.rank);
            expect(bytes.down).toEqual(await adapter.file.read(module.down.name));
            expect(bytes.up).toEqual(await adapter.file.read(module.up.name));
          }
        }),
      );
    }
  };
  await readPairs();
  expect(memory.size).toBe(2);
});

test("memory comes back from what fails", async () => {
  await using adapter = await randomAdapter();
  const reader = new ModuleReader(adapter);
  const [module] = adapter.modules;
  const memory = new Set<ArrayBufferLike>();
  for (let i = 0; i < 3; i++) {
    const failing = reader.with(adapter, module!, async ({ down }) => {
      memory.add(down.buffer);
      throw new Error("no use");
    });
    await expect(failing).rejects.toThrow("no use");
  }
  expect(memory.size).toBe(1);
});
