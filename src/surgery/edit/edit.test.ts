import { chmod, readdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { everyKindOfModule, writeRandomAdapter } from "../../../test/helpers/random-adapter.js";
import { tempFolder } from "../../../test/helpers/temp-folder.js";
import { readHeader, SafetensorsFile } from "../../safetensors/index.js";
import { editedMetadata, editMetadata } from "./edit.js";

const METADATA = {
  ss_network_dim: "8",
  ss_dataset_dirs: '{"secret": 1}',
  ss_dataset_x: "y",
  "modelspec.title": "cat",
};

async function adapterFile(metadata: Record<string, string> | null = METADATA, hashes = true) {
  const folder = await tempFolder();
  const path = join(folder, "cat.safetensors");
  await writeRandomAdapter(path, { metadata, hashes });
  return { folder, path, out: join(folder, "out.safetensors") };
}

/** Everything behind the header. */
async function dataOf(path: string): Promise<Buffer> {
  const { dataStartBytes } = await readHeader(path);
  return (await readFile(path)).subarray(dataStartBytes);
}

/** A file of 3 MB: the legacy hash looks at 64 KiB behind the first MiB. */
async function largeFile() {
  const file = await adapterFile();
  await writeRandomAdapter(file.path, {
    modules: everyKindOfModule(512).filter(({ name }) => name.includes("attn2")),
    dtype: "F32",
    metadata: { ss_network_dim: "512", note: "n" },
    hashes: true,
  });
  return file;
}

describe("editMetadata", () => {
  test("sets and removes keys, copies the data, keeps the model hash", async () => {
    const { path, out } = await adapterFile();
    const before = await readHeader(path);
    const report = await editMetadata(
      path,
      { remove: ["ss_dataset_*"], set: { "modelspec.title": "Katze ü", new: "" } },
      { path: out },
    );
    const after = await readHeader(out);
    expect(Object.keys(after.metadata!)).toEqual([
      "ss_network_dim",
      "modelspec.title",
      "sshs_model_hash",
      "sshs_legacy_hash",
      "new",
    ]);
    expect(after.metadata).toMatchObject({
      "modelspec.title": "Katze ü",
      new: "",
      sshs_model_hash: before.metadata!.sshs_model_hash,
    });
    expect([...after.tensors.values()].map(({ name, dtype, shape }) => ({ name, dtype, shape }))).toEqual(
      [...before.tensors.values()].map(({ name, dtype, shape }) => ({ name, dtype, shape })),
    );
    expect(Buffer.compare(await dataOf(out), await dataOf(path))).toBe(0);
    expect(report).toMatchObject({
      hashMatched: true,
      dataSha256: before.metadata!.sshs_model_hash,
      sizeBytes: (await stat(out)).size,
    });
    expect(report.changes.map(({ key, before: was, after: is }) => [key, was, is])).toEqual([
      ["ss_dataset_dirs", METADATA.ss_dataset_dirs, null],
      ["ss_dataset_x", "y", null],
      ["modelspec.title", "cat", "Katze ü"],
      ["new", null, ""],
    ]);
  });

  test("the legacy hash is what a file written with that metadata has", async () => {
    const { path, out } = await largeFile();
    // Longer by more than the padding: the window of the hash moves over the data.
    const set = { ss_training_comment: "x".repeat(100) };
    const report = await editMetadata(path, { set }, { path: out });
    expect(report.changes.map(({ key }) => key).sort()).toEqual(["ss_training_comment", "sshs_legacy_hash"]);
    const written = join(out, "..", "written.safetensors");
    await writeRandomAdapter(written, {
      modules: everyKindOfModule(512).filter(({ name }) => name.includes("attn2")),
      dtype: "F32",
      metadata: { ss_network_dim: "512", note: "n", ...set },
      hashes: true,
    });
    expect((await readHeader(out)).metadata).toEqual((await readHeader(written)).metadata);
    // Keys that are no training keys do not count.
    const other = await editMetadata(
      out,
      { set: { note: "m".repeat(100) } },
      { path: join(out, "..", "other.safetensors") },
    );
    expect(other.changes.map(({ key }) => key)).toEqual(["note"]);
  });

  test("a wrong model hash is put right, and that is said", async () => {
    const { path, out } = await adapterFile({ ...METADATA, sshs_model_hash: "0".repeat(64) }, false);
    const report = await editMetadata(path, { set: { a: "b" } }, { path: out });
    expect(report.hashMatched).toBe(false);
    expect((await readHeader(out)).metadata!.sshs_model_hash).toBe(report.dataSha256);
  });

  test("a file without hashes gets none; removing all metadata leaves no __metadata__", async () => {
    const { path, out } = await adapterFile(METADATA, false);
    await editMetadata(path, { remove: ["*"] }, { path: out });
    expect((await readHeader(out)).metadata).toBeNull();
    expect(Buffer.compare(await dataOf(out), await dataOf(path))).toBe(0);
  });

  test("a file that was not written in canonical order keeps its order, and its bytes", async () => {
    const { path, out } = await adapterFile();
    const header = JSON.stringify({
      __metadata__: { a: "1" },
      b: { dtype: "U8", shape: [3], data_offsets: [0, 3], comment: "unknown field" },
      'a"ü': { dtype: "F32", shape: [1], data_offsets: [3, 7] },
      empty: { dtype: "F32", shape: [0, 4], data_offsets: [7, 7] },
    });
    const json = Buffer.from(header);
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(json.length));
    await writeFile(path, Buffer.concat([length, json, Buffer.from([1, 2, 3, 4, 5, 6, 7])]));
    await editMetadata(path, { set: { a: "22222222" } }, { path: out });
    const after = await readHeader(out);
    expect([...after.tensors.keys()]).toEqual(["b", 'a"ü', "empty"]);
    expect(after.dataStartBytes % 8).toBe(0);
    expect([...(await dataOf(out))]).toEqual([1, 2, 3, 4, 5, 6, 7]);
  });
});

describe("in place", () => {
  test("the file is replaced in one step and keeps its permissions and a link to it", async () => {
    const { folder, path } = await adapterFile();
    await chmod(path, 0o640);
    const link = join(folder, "link.safetensors");
    await symlink(path, link);
    const data = await dataOf(path);
    await using reader = await SafetensorsFile.open(path);
    await editMetadata(link, { set: { a: "b" } }, { path: link });
    expect((await readHeader(path)).metadata).toMatchObject({ a: "b" });
    expect(Buffer.compare(await dataOf(path), data)).toBe(0);
    expect((await stat(path)).mode & 0o777).toBe(0o640);
    expect((await readdir(folder)).sort()).toEqual(["cat.safetensors", "link.safetensors"]);
    // Whoever has the old file open still reads it whole.
    const [name] = reader.header.tensors.keys();
    expect((await reader.read(name!)).length).toBe(reader.info(name!).sizeBytes);
  });
});

describe("what it refuses, with nothing changed", () => {
  test.each([
    [{ set: { sshs_model_hash: "x" } }, "sshs_model_hash cannot be set"],
    [{ set: { "": "x" } }, "a key is empty"],
    [{ remove: ["ss_dataset"] }, 'no metadata key fits "ss_dataset"'],
    [{ remove: ["ss.network.dim"] }, "no metadata key fits"],
  ])("%j", async (edit, message) => {
    const { folder, path } = await adapterFile();
    const before = await readFile(path);
    const editing = editMetadata(path, edit as object, { path });
    await expect(editing).rejects.toMatchObject({
      code: "E_USAGE",
      message: expect.stringContaining(message),
    });
    expect(Buffer.compare(await readFile(path), before)).toBe(0);
    expect(await readdir(folder)).toEqual(["cat.safetensors"]);
  });

  test("an existing output, text that is no Unicode, an interruption", async () => {
    const { folder, path, out } = await adapterFile();
    await writeFile(out, "mine");
    await expect(editMetadata(path, { set: { a: "b" } }, { path: out })).rejects.toMatchObject({
      code: "E_EXISTS",
    });
    await expect(editMetadata(path, { set: { a: "\ud800" } }, { path })).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
    });
    const signal = AbortSignal.abort();
    await expect(editMetadata(path, { set: { a: "b" } }, { path, signal })).rejects.toMatchObject({
      code: "E_INTERRUPTED",
    });
    expect(await readFile(out, "utf8")).toBe("mine");
    expect((await readdir(folder)).sort()).toEqual(["cat.safetensors", "out.safetensors"]);
  });

  test("keys that are names of Object's own", () => {
    const edited = editedMetadata(
      Object.fromEntries([
        ["__proto__", "a"],
        ["constructor", "b"],
      ]),
      { set: { toString: "c" } },
      "x",
    );
    expect(Object.entries(edited)).toEqual([
      ["__proto__", "a"],
      ["constructor", "b"],
      ["toString", "c"],
    ]);
  });
});
