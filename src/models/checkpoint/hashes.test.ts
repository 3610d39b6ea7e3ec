import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { sdModelHash, sha256OfFile } from "./hashes.js";

const MIB = 1024 * 1024;
let folder: string;
let path: string;
const bytes = Buffer.alloc(3 * MIB);
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "dylora-hashes-"));
  path = join(folder, "model.safetensors");
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 2654435761) >>> 24;
  await writeFile(path, bytes);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const sha256 = (data: Uint8Array) => createHash("sha256").update(data).digest("hex");

test("the old hash covers 64 KiB at 1 MiB", async () => {
  expect(await sdModelHash(path)).toBe(sha256(bytes.subarray(MIB, MIB + 65536)).slice(0, 8));
});

test("the old hash of a short file covers what is there", async () => {
  const shortPath = join(folder, "short.safetensors");
  await writeFile(shortPath, bytes.subarray(0, MIB + 100));
  expect(await sdModelHash(shortPath)).toBe(sha256(bytes.subarray(MIB, MIB + 100)).slice(0, 8));
  // Shorter still: the SHA-256 of nothing.
  await writeFile(shortPath, bytes.subarray(0, 100));
  expect(await sdModelHash(shortPath)).toBe("e3b0c442");
});

test("the full hash covers everything and reports progress", async () => {
  const progress: number[] = [];
  const hash = await sha256OfFile(path, {
    onProgress: (readBytes, totalBytes) => {
      expect(totalBytes).toBe(bytes.length);
      progress.push(readBytes);
    },
  });
  expect(hash).toBe(sha256(bytes));
  expect(progress).toEqual([MIB, 2 * MIB, 3 * MIB]);
});

test("the full hash can be stopped", async () => {
  const controller = new AbortController();
  const reason = new Error("stopped by the user");
  const hashing = sha256OfFile(path, {
    signal: controller.signal,
    onProgress: () => controller.abort(reason),
  });
  await expect(hashing).rejects.toBe(reason);
  await expect(sha256OfFile(path, { signal: controller.signal })).rejects.toBe(reason);
});

test("a folder has no hash, a missing file is an error", async () => {
  expect(await sdModelHash(folder)).toBeNull();
  expect(await sha256OfFile(folder)).toBeNull();
  await expect(sdModelHash(join(folder, "absent"))).rejects.toMatchObject({ code: "E_NOT_FOUND" });
  await expect(sha256OfFile(join(folder, "absent"))).rejects.toMatchObject({ code: "E_NOT_FOUND" });
});
