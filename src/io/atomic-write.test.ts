import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { mountTinyDisk } from "../../test/helpers/full-disk.js";
import { AtomicFile, writeFileAtomic } from "./atomic-write.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "dylora-atomic-"));
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

describe("writeFileAtomic", () => {
  it("writes text and bytes, and leaves nothing else in the folder", async () => {
    await writeFileAtomic(join(folder, "a.json"), '{"ü":1}');
    await writeFileAtomic(join(folder, "b.bin"), Uint8Array.of(1, 2, 3));
    expect(readFileSync(join(folder, "a.json"), "utf8")).toBe('{"ü":1}');
    expect([...readFileSync(join(folder, "b.bin"))]).toEqual([1, 2, 3]);
    expect(readdirSync(folder).sort()).toEqual(["a.json", "b.bin"]);
  });

  it("replaces by default, and refuses to with overwrite: false", async () => {
    const path = join(folder, "a.txt");
    await writeFileAtomic(path, "one");
    await writeFileAtomic(path, "two");
    expect(readFileSync(path, "utf8")).toBe("two");
    await expect(writeFileAtomic(path, "three", { overwrite: false })).rejects.toMatchObject({
      code: "E_EXISTS",
      message: expect.stringContaining(path),
    });
    expect(readFileSync(path, "utf8")).toBe("two");
    expect(readdirSync(folder)).toEqual(["a.txt"]);
  });

  it("keeps a symbolic link and replaces what it points to", async () => {
    const real = join(folder, "real.txt");
    const link = join(folder, "link.txt");
    writeFileSync(real, "old");
    symlinkSync(real, link);
    await writeFileAtomic(link, "new");
    expect(readFileSync(real, "utf8")).toBe("new");
    expect(readdirSync(folder).sort()).toEqual(["link.txt", "real.txt"]);
  });

  it("says that the folder is missing", async () => {
    await expect(writeFileAtomic(join(folder, "no", "a.txt"), "x")).rejects.toMatchObject({
      code: "E_WRITE",
      message: expect.stringContaining("ENOENT"),
      note: expect.stringContaining("Create the folder first"),
    });
  });

  it("refuses a folder as target and a file as folder", async () => {
    mkdirSync(join(folder, "sub"));
    writeFileSync(join(folder, "file"), "x");
    await expect(writeFileAtomic(join(folder, "sub"), "x")).rejects.toMatchObject({ code: "E_WRITE" });
    await expect(writeFileAtomic(join(folder, "file", "a"), "x")).rejects.toMatchObject({ code: "E_WRITE" });
    expect(readdirSync(folder).sort()).toEqual(["file", "sub"]);
  });
});

describe("AtomicFile", () => {
  it("shows no target before publish, and no temporary file after discard", async () => {
    const path = join(folder, "a.bin");
    const file = await AtomicFile.create(path, { overwrite: false });
    await file.write(Uint8Array.of(3, 4), 2);
    await file.write(Uint8Array.of(1, 2), 0);
    expect(readdirSync(folder)).toEqual([expect.stringMatching(/^\.a\.bin\.\d+-[0-9a-z]+\.tmp$/)]);
    await file.discard();
    await file.discard();
    expect(readdirSync(folder)).toEqual([]);
  });

  it("does not replace a target that appeared while it was written", async () => {
    const path = join(folder, "a.bin");
    const file = await AtomicFile.create(path, { overwrite: false });
    await file.write(Uint8Array.of(1), 0);
    await file.sync();
    writeFileSync(path, "somebody else's");
    await expect(file.publish()).rejects.toMatchObject({ code: "E_EXISTS" });
    await file.discard();
    expect(readFileSync(path, "utf8")).toBe("somebody else's");
    expect(readdirSync(folder)).toEqual(["a.bin"]);
  });

  it("refuses to publish what is not on the disk yet", async () => {
    const file = await AtomicFile.create(join(folder, "a.bin"), { overwrite: false });
    await expect(file.publish()).rejects.toMatchObject({ code: "E_INTERNAL" });
    await file.discard();
  });
});

it("on a full disk fails with E_WRITE, removes the temporary file and keeps the target", async (context) => {
  const disk = mountTinyDisk(64);
  if (disk === null) return context.skip("this user may not mount a tmpfs");
  try {
    const path = join(disk.path, "a.bin");
    await writeFileAtomic(path, "before");
    await expect(writeFileAtomic(path, new Uint8Array(1 << 20))).rejects.toMatchObject({
      code: "E_WRITE",
      exitCode: 1,
      message: expect.stringContaining("no space left on the device (ENOSPC)"),
      note: expect.stringContaining("not touched"),
    });
    expect(readFileSync(path, "utf8")).toBe("before");
    expect(readdirSync(disk.path)).toEqual(["a.bin"]);
  } finally {
    disk.remove();
  }
});
