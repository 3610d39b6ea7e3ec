import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { readHeader, SafetensorsFile } from "./file.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "dylora-file-"));
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** A file of literal bytes. */
function file(...parts: (string | number[])[]): string {
  const path = join(folder, "x.safetensors");
  writeFileSync(
    path,
    Buffer.concat(
      parts.map((part) => (typeof part === "string" ? Buffer.from(part, "latin1") : Buffer.from(part))),
    ),
  );
  return path;
}

const TEST_HEADER = '{"test":{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]}}';
const TEST_DATA = [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 255, 255, 255, 255];

describe("reading", () => {
  it("the reference's own example", async () => {
    const path = file("<\0\0\0\0\0\0\0", TEST_HEADER, TEST_DATA);
    await using opened = await SafetensorsFile.open(path);
    expect(opened.header.tensors.get("test")).toEqual({
      name: "test",
      dtype: "I32",
      shape: [2, 2],
      offsetBytes: 68,
      sizeBytes: 16,
    });
    expect(opened.header.metadata).toBe(null);
    expect(opened.sizeBytes).toBe(84);
    expect([...(await opened.readFloat32("test"))]).toEqual([1, 2, 3, -1]);
    expect([...(await opened.readRange("test", 4, 9))]).toEqual([2, 0, 0, 0, 3]);
    const pieces: number[][] = [];
    for await (const piece of opened.stream("test", 6)) pieces.push([...piece]);
    expect(pieces).toEqual([TEST_DATA.slice(0, 6), TEST_DATA.slice(6, 12), TEST_DATA.slice(12)]);
  });

  it("an empty file of no tensors", async () => {
    expect((await readHeader(file("\x02\0\0\0\0\0\0\0{}"))).tensors.size).toBe(0);
  });

  it("names a tensor that is not there, and refuses a range outside of one", async () => {
    await using opened = await SafetensorsFile.open(file("<\0\0\0\0\0\0\0", TEST_HEADER, TEST_DATA));
    await expect(opened.read("no")).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
      message: expect.stringContaining('"no"'),
    });
    await expect(opened.readRange("test", 8, 17)).rejects.toMatchObject({ code: "E_INTERNAL" });
    await opened.close();
    await expect(opened.read("test")).rejects.toMatchObject({ code: "E_INTERNAL" });
  });

  it("notices that the file became shorter meanwhile", async () => {
    const path = file("<\0\0\0\0\0\0\0", TEST_HEADER, TEST_DATA);
    await using opened = await SafetensorsFile.open(path);
    truncateSync(path, 80);
    await expect(opened.read("test")).rejects.toMatchObject({
      code: "E_READ",
      message: expect.stringContaining("shorter"),
    });
  });
});

describe("files that cannot be read", () => {
  it("is missing", async () => {
    await expect(SafetensorsFile.open(join(folder, "no.safetensors"))).rejects.toMatchObject({
      code: "E_NOT_FOUND",
      exitCode: 3,
      message: expect.stringContaining("no.safetensors"),
    });
  });

  it("is a folder", async () => {
    mkdirSync(join(folder, "sub"));
    await expect(SafetensorsFile.open(join(folder, "sub"))).rejects.toMatchObject({
      code: "E_READ",
      message: expect.stringContaining("it is a folder"),
    });
  });
});

describe("files that are malformed", () => {
  const malformed: [string, (string | number[])[], string][] = [
    ["empty", [""], "the file has 0 bytes, too few"],
    ["shorter than the length", ["\x3c\0\0"], "the file has 3 bytes, too few"],
    ["only the length", ["<\0\0\0\0\0\0\0"], "said to have 60 bytes, but only 0 follow"],
    [
      "cut off inside the header",
      ["<\0\0\0\0\0\0\0", TEST_HEADER.slice(0, 30)],
      "said to have 60 bytes, but only 30 follow",
    ],
    [
      "cut off inside the data",
      ["<\0\0\0\0\0\0\0", TEST_HEADER, TEST_DATA.slice(0, 14)],
      "the file has only 14 of 16 bytes: it is truncated",
    ],
    ["longer than its tensors", ["<\0\0\0\0\0\0\0", TEST_HEADER, TEST_DATA, "extra"], "goes on for 5 bytes"],
    [
      "a header said to be longer than it is",
      ["@\0\0\0\0\0\0\0", TEST_HEADER, TEST_DATA],
      'expected the end, found "\\u0001"',
    ],
    [
      "a header said to be shorter than it is",
      ["\x3b\0\0\0\0\0\0\0", TEST_HEADER, TEST_DATA],
      'expected "}", found the end',
    ],
    [
      "a header said to be 100 MB and a byte",
      [[0x01, 0xe1, 0xf5, 0x05, 0, 0, 0, 0], TEST_HEADER, TEST_DATA],
      "100000001 bytes, more than the 100000000",
    ],
    [
      "a header said to be exactly 100 MB",
      [[0x00, 0xe1, 0xf5, 0x05, 0, 0, 0, 0], TEST_HEADER, TEST_DATA],
      "said to have 100000000 bytes, but only 76 follow",
    ],
    [
      "a header said to be 2^64 - 1 bytes",
      [[255, 255, 255, 255, 255, 255, 255, 255], TEST_HEADER],
      "18446744073709551615 bytes, more than",
    ],
    ["a header of no bytes", ["\0\0\0\0\0\0\0\0"], 'expected "{", found the end'],
    ["a header of one bad byte", ["\x01\0\0\0\0\0\0\0\xff"], "not valid UTF-8"],
  ];
  it.each(malformed)("%s", async (_, parts, problem) => {
    const path = file(...parts);
    await expect(SafetensorsFile.open(path)).rejects.toMatchObject({
      code: "E_FORMAT",
      message: expect.stringContaining(`read ${path}: `),
      note: expect.stringContaining("not changed"),
    });
    await expect(readHeader(path)).rejects.toThrow(problem);
  });
});

describe("files of other formats get a note that helps", () => {
  it.each([
    ["PK\x03\x04archive/data.pkl", "PyTorch checkpoint"],
    ["\x80\x02}q\x00(X\x05\0\0\0state", "pickle"],
    ["version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"],
    ["<!DOCTYPE html><html><head>", "web page"],
    ["GGUF\x03\0\0\0", "GGUF"],
    ['{"_class_name": "UNet2DConditionModel"}', "JSON"],
    ["\x89PNG\r\n\x1a\n", "picture"],
  ])("%j", async (content, hint) => {
    await expect(readHeader(file(content))).rejects.toMatchObject({
      code: "E_FORMAT",
      note: expect.stringContaining(hint),
    });
  });
});
