import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { PositionalFile } from "./positional-file.js";

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "dylora-positional-"));
  path = join(folder, "x");
  writeFileSync(
    path,
    Uint8Array.from({ length: 1 << 16 }, (_, i) => i % 251),
  );
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

it("reads where it is told to, both ways", async () => {
  const file = await PositionalFile.open(path);
  expect(file.sizeBytes).toBe(1 << 16);
  const [later, atOnce] = [new Uint8Array(3), new Uint8Array(3)];
  await file.read(later, 252);
  file.readSync(atOnce, 252);
  expect([...later]).toEqual([1, 2, 3]);
  expect(atOnce).toEqual(later);
  await file.close();
});

it("ends before the bytes that are asked for", async () => {
  const file = await PositionalFile.open(path);
  truncateSync(path, 100);
  await expect(file.read(new Uint8Array(10), 95)).rejects.toMatchObject({
    code: "E_READ",
    message: expect.stringContaining("shorter"),
    note: expect.stringContaining("byte 105"),
  });
  expect(() => file.readSync(new Uint8Array(10), 95)).toThrow("shorter");
  await file.close();
});

it("is closed when the reads under way are done, and then read no more", async () => {
  const file = await PositionalFile.open(path);
  const targets = Array.from({ length: 20 }, () => new Uint8Array(1 << 16));
  const done: string[] = [];
  const reads = targets.map(async (target) => {
    await file.read(target, 0);
    done.push("read");
  });
  await file.close().then(() => done.push("closed"));
  expect(done).toEqual([...targets.map(() => "read"), "closed"]);
  await Promise.all(reads);
  expect(targets.every((target) => target[250] === 250)).toBe(true);
  await expect(file.read(new Uint8Array(1), 0)).rejects.toMatchObject({ code: "E_INTERNAL" });
  expect(() => file.readSync(new Uint8Array(1), 0)).toThrow("after it was closed");
  await file.close();
});

it("says what is wrong with a path", async () => {
  await expect(PositionalFile.open(join(folder, "no"))).rejects.toMatchObject({ code: "E_NOT_FOUND" });
  await expect(PositionalFile.open(folder)).rejects.toMatchObject({
    code: "E_READ",
    message: expect.stringContaining("it is a folder"),
  });
});
