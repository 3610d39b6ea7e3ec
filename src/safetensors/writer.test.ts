import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { mountTinyDisk } from "../../test/helpers/full-disk.js";
import { buildHeader, layoutData } from "./build-header.js";
import { DTYPES, type Dtype, tensorSize } from "./dtype.js";
import { SafetensorsFile } from "./file.js";
import { HashPool } from "./hash-pool.js";
import type { TensorSpec } from "./header.js";
import { computeModelHash } from "./model-hashes.js";
import { parseHeader } from "./parse-header.js";
import { type TensorSource, writeSafetensors } from "./write.js";
import { SafetensorsWriter } from "./writer.js";

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "dylora-writer-"));
  path = join(folder, "out.safetensors");
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

function tensor(name: string, dtype: Dtype, shape: number[], bytes: ArrayLike<number>): TensorSource {
  return { name, dtype, shape, data: () => Uint8Array.from(bytes) };
}

const ABC = [
  tensor("b", "F16", [2], [1, 2, 3, 4]),
  tensor("c", "I64", [], [5, 0, 0, 0, 0, 0, 0, 0]),
  tensor("a", "F16", [1, 1], [6, 7]),
];

describe("exact bytes", () => {
  it("of the reference's own example", async () => {
    // safetensors/src/tensor.rs, test_serialization: two F32 tensors of [1, 2, 3].
    const data = new Uint8Array(Float32Array.of(0, 1, 2, 3, 4, 5).buffer);
    await writeSafetensors(path, [tensor("attn.0", "F32", [1, 2, 3], data)]);
    const header = '{"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}}';
    expect(readFileSync(path)).toEqual(
      Buffer.concat([Buffer.from([64, 0, 0, 0, 0, 0, 0, 0]), Buffer.from(header), data]),
    );
  });

  it("with the header padded to 8 bytes", async () => {
    const data = new Uint8Array(Float32Array.of(0, 1, 2, 3, 4, 5).buffer);
    await writeSafetensors(path, [tensor("attn0", "F32", [1, 1, 2, 3], data)]);
    const header = '{"attn0":{"dtype":"F32","shape":[1,1,2,3],"data_offsets":[0,24]}}       ';
    expect(readFileSync(path)).toEqual(
      Buffer.concat([Buffer.from([72, 0, 0, 0, 0, 0, 0, 0]), Buffer.from(header), data]),
    );
  });

  it("of several types, whatever order the tensors come in", async () => {
    const header =
      '{"__metadata__":{"z":"1","a":"\\u0000\\n\\"ü😀/"},"c":{"dtype":"I64","shape":[],"data_offsets":[0,8]},' +
      '"a":{"dtype":"F16","shape":[1,1],"data_offsets":[8,10]},"b":{"dtype":"F16","shape":[2],"data_offsets":[10,14]}}';
    const padded = Buffer.from(header.padEnd(header.length + 7));
    const headerBytes = padded.subarray(0, padded.length - (padded.length % 8));
    const expected = Buffer.concat([
      Buffer.from([headerBytes.length, 0, 0, 0, 0, 0, 0, 0]),
      headerBytes,
      Buffer.from([5, 0, 0, 0, 0, 0, 0, 0, 6, 7, 1, 2, 3, 4]),
    ]);
    expect(headerBytes.length).toBeLessThan(256);
    for (const [i, order] of [ABC, [...ABC].reverse()].entries()) {
      const result = await writeSafetensors(join(folder, `${i}`), order, {
        metadata: { z: "1", a: '\0\n"ü😀/' },
      });
      expect(readFileSync(join(folder, `${i}`))).toEqual(expected);
      expect(result).toEqual({
        path: join(folder, `${i}`),
        sizeBytes: expected.length,
        dataSha256: createHash("sha256")
          .update(expected.subarray(8 + headerBytes.length))
          .digest("hex"),
      });
    }
  });

  it("of no tensors, with and without metadata", async () => {
    await writeSafetensors(path, []);
    expect(readFileSync(path, "latin1")).toBe("\x08\0\0\0\0\0\0\0{}      ");
    await writeSafetensors(path, [], { metadata: {}, overwrite: true });
    expect(readFileSync(path, "latin1")).toBe('\x18\0\0\0\0\0\0\0{"__metadata__":{}}     ');
  });

  it("of tensors without elements", async () => {
    await writeSafetensors(path, [tensor("a", "F32", [2, 0], [])]);
    expect(readFileSync(path, "latin1")).toBe(
      '\x38\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[2,0],"data_offsets":[0,0]}}',
    );
  });
});

describe("layout", () => {
  it("orders types as the reference's enum does, from the last to the first", () => {
    const dtypes = Object.keys(DTYPES) as Dtype[];
    const { tensors } = layoutData(dtypes.map((dtype) => ({ name: "t".concat(dtype), dtype, shape: [8] })));
    expect(tensors.map(({ dtype }) => dtype)).toEqual([
      ..."U64 I64 F64 C64 F32 U32 I32 BF16 F16 U16 I16 F8_E5M2FNUZ F8_E4M3FNUZ F8_E8M0 F8_E4M3 F8_E5M2".split(
        " ",
      ),
      ..."I8 U8 F6_E3M2 F6_E2M3 F4 BOOL".split(" "),
    ]);
  });

  it("orders names by UTF-8 bytes, not by UTF-16 units", () => {
    const names = ["\u{1f600}", "\uffee", "b", "a.b", "a_b", "B", ""];
    const { tensors } = layoutData(names.map((name) => ({ name, dtype: "U8", shape: [] })));
    expect(tensors.map(({ name }) => name)).toEqual(["", "B", "a.b", "a_b", "b", "\uffee", "\u{1f600}"]);
  });

  it("comes back from the parser as it was", () => {
    const shape = fc.array(fc.integer({ min: 0, max: 7 }), { maxLength: 4 });
    const dtype = fc.constantFrom(...(Object.keys(DTYPES) as Dtype[]));
    const specs = fc
      .uniqueArray(fc.record({ name: fc.string({ unit: "binary" }), dtype, shape }), {
        selector: ({ name }) => name,
      })
      .map((list) =>
        list.filter((spec) => tensorSize(spec.dtype, spec.shape).ok && spec.name !== "__metadata__"),
      );
    const metadata = fc.option(fc.dictionary(fc.string({ unit: "binary" }), fc.string({ unit: "binary" })));
    fc.assert(
      fc.property(specs, metadata, (tensorSpecs, values) => {
        const layout = layoutData(tensorSpecs);
        const bytes = buildHeader(layout, values);
        expect(bytes.length % 8).toBe(0);
        const parsed = parseHeader(bytes.subarray(8), {
          subject: "x",
          fileSizeBytes: bytes.length + layout.dataBytes,
        });
        expect(parsed.metadata === null ? null : Object.entries(parsed.metadata)).toEqual(
          values === null ? null : Object.entries(values),
        );
        // Empty tensors share an offset, and may come back in another order among themselves.
        const byName = (a: TensorSpec, b: TensorSpec) => (a.name < b.name ? -1 : 1);
        expect([...parsed.tensors.values()].sort(byName)).toEqual(
          layout.tensors
            .map((info) => ({ ...info, offsetBytes: info.offsetBytes + bytes.length }))
            .sort(byName),
        );
      }),
      { numRuns: 100 },
    );
  });

  it("refuses a name twice, and the name of the metadata", () => {
    const a: TensorSpec = { name: "a", dtype: "U8", shape: [] };
    expect(() => layoutData([a, a])).toThrow(expect.objectContaining({ code: "E_INTERNAL" }));
    expect(() => layoutData([{ ...a, name: "__metadata__" }])).toThrow(
      expect.objectContaining({ code: "E_INTERNAL" }),
    );
  });

  it("refuses a header over 100 MB", () => {
    const layout = { tensors: [], dataBytes: 0, json: "x".repeat(100_000_000) };
    expect(() => buildHeader(layout, null)).toThrow(
      expect.objectContaining({
        code: "E_INCOMPATIBLE",
        message: expect.stringContaining("100000008 bytes, more than the 100000000"),
      }),
    );
  });

  it("refuses text that is no Unicode", async () => {
    await expect(writeSafetensors(path, [], { metadata: { half: "\ud800" } })).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
    });
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe("streaming", () => {
  const shape = [70_001];
  const bytes = Uint8Array.from({ length: shape[0]! }, (_, i) => (i * 31) % 251);

  it.each([1, 7, 64, 4096, 1 << 20])("gives the same file with buffers of %i bytes", async (bufferBytes) => {
    const small = bufferBytes < 64 ? 300 : shape[0]!;
    const source: TensorSource = {
      name: "t",
      dtype: "U8",
      shape: [small],
      async *data() {
        for (let begin = 0, step = 1; begin < small; begin += step, step = step * 2 + 1) {
          yield bytes.subarray(begin, Math.min(begin + step, small));
        }
      },
    };
    const { dataSha256 } = await writeSafetensors(path, [source], { bufferBytes });
    expect(dataSha256).toBe(createHash("sha256").update(bytes.subarray(0, small)).digest("hex"));
    await using file = await SafetensorsFile.open(path);
    expect(await file.read("t")).toEqual(bytes.subarray(0, small));
    expect(await computeModelHash(file)).toBe(dataSha256);
  });

  it("never cuts a claimed row", async () => {
    const rows = 1000;
    const rowBytes = 6;
    const writer = await SafetensorsWriter.create(
      path,
      layoutData([{ name: "t", dtype: "U8", shape: [rows, rowBytes] }]),
      { bufferBytes: 40 },
    );
    for (let row = 0; row < rows; ) {
      const room = await writer.claim((rows - row) * rowBytes, rowBytes);
      expect(room.length % rowBytes).toBe(0);
      expect(room.length).toBeGreaterThan(0);
      for (let i = 0; i < room.length; i++) room[i] = bytes[row * rowBytes + i]!;
      row += room.length / rowBytes;
    }
    await writer.finish();
    expect(existsSync(path)).toBe(false);
    await writer.publish();
    await using file = await SafetensorsFile.open(path);
    expect(await file.read("t")).toEqual(bytes.subarray(0, rows * rowBytes));
  });

  it("reports progress after each tensor", async () => {
    const seen: unknown[] = [];
    await writeSafetensors(path, ABC, { onProgress: (progress) => seen.push(progress) });
    expect(seen).toEqual([8, 10, 14].map((doneBytes) => ({ doneBytes, totalBytes: 14 })));
  });
});

describe("hashes", () => {
  it("is the same over tensors of any sizes, read in pieces of 1 MiB", async () => {
    const sizes = [1, 0, 1 << 20, 2, (1 << 20) - 3, 3, 2_500_001, 7, 1 << 20];
    const data = sizes.map((size, i) => Uint8Array.from({ length: size }, (_, k) => (k * 7 + i * 31) % 251));
    const sources = data.map((bytes, i) => ({
      name: `t${i}`,
      dtype: "U8" as const,
      shape: [bytes.length],
      data: () => bytes,
    }));
    const path = join(folder, "pieces.safetensors");
    const { dataSha256 } = await writeSafetensors(path, sources);
    const expected = createHash("sha256");
    for (const bytes of data) expected.update(bytes);
    await using file = await SafetensorsFile.open(path);
    expect(await computeModelHash(file)).toBe(expected.digest("hex"));
    const pool = new HashPool(1);
    expect(await computeModelHash(file, pool.open())).toBe(dataSha256);
    await pool.close();
  });

  it("are those of the golden files, written anew", async (context) => {
    const golden = new URL("../../../shared/golden/", import.meta.url);
    if (!existsSync(golden)) return context.skip("no ../shared/golden beside the clone");
    const expected = {
      "sd1-tiny": "c6baf9036a9b6602c1c8e2d73c22ee08e11bca686998463ed96a8e34c845bf55",
      "sd2-tiny": "e20fed59e5d986657e9f6887858ff658647bcc3caa84c153cd7ac8b41fc5b9ff",
    };
    for (const [name, hash] of Object.entries(expected)) {
      await using file = await SafetensorsFile.open(new URL(`${name}/lora.safetensors`, golden).pathname);
      expect(await computeModelHash(file)).toBe(hash);
      const sources = [...file.header.tensors.values()]
        .reverse()
        .map((info) => ({ ...info, data: () => file.read(info.name) }));
      const target = join(folder, name);
      await writeSafetensors(target, sources, { metadata: file.header.metadata, hashes: true });
      await using copy = await SafetensorsFile.open(target);
      expect(copy.header.metadata).toMatchObject({ ...file.header.metadata, sshs_model_hash: hash });
      // Data that the reference implementation laid out: the canonical order is its order.
      expect([...copy.header.tensors.keys()]).toEqual([...file.header.tensors.keys()]);
    }
  });

  /** sshs_legacy_hash as sd-scripts defines it: of the file as it would be with the ss_ metadata only. */
  async function legacyHash(sources: TensorSource[], metadata: Record<string, string>): Promise<string> {
    const training = Object.fromEntries(Object.entries(metadata).filter(([key]) => key.startsWith("ss_")));
    const plain = join(folder, "plain");
    await writeSafetensors(plain, sources, { metadata: training, overwrite: true });
    return createHash("sha256")
      .update(readFileSync(plain).subarray(0x100000, 0x110000))
      .digest("hex")
      .slice(0, 8);
  }

  it.each([
    ["that ends before 1 MiB", 1000, 10],
    ["that ends inside the 64 KiB", 0x100000 + 500, 10],
    ["that goes on behind the 64 KiB", 0x120000, 10],
    ["whose header reaches into the 64 KiB", 0x20000, 0x100000 + 1000],
  ])("sshs_legacy_hash of a file %s", async (_, dataBytes, metadataBytes) => {
    const bytes = Uint8Array.from({ length: dataBytes }, (__, i) => (i * 131) % 256);
    const sources = [tensor("t", "U8", [dataBytes], bytes)];
    const metadata = { modelspec: "not counted", ss_x: "y".repeat(metadataBytes), sshs_model_hash: "old" };
    await writeSafetensors(path, sources, { metadata, hashes: true });
    await using file = await SafetensorsFile.open(path);
    expect(file.header.metadata!.sshs_legacy_hash).toBe(await legacyHash(sources, metadata));
    expect(file.header.metadata!.sshs_model_hash).toBe(createHash("sha256").update(bytes).digest("hex"));
  });
});

describe("failure", () => {
  it("leaves an existing file alone, unless overwrite", async () => {
    writeFileSync(path, "mine");
    await expect(writeSafetensors(path, ABC)).rejects.toMatchObject({ code: "E_EXISTS" });
    expect(readFileSync(path, "utf8")).toBe("mine");
    await writeSafetensors(path, ABC, { overwrite: true });
    await using file = await SafetensorsFile.open(path);
    expect(file.header.tensors.size).toBe(3);
    expect(readdirSync(folder)).toEqual(["out.safetensors"]);
  });

  it("leaves nothing behind when a source fails, or gives too much or too little", async () => {
    const sources: [TensorSource, object][] = [
      [{ ...ABC[0]!, data: () => Promise.reject(new Error("gone")) }, { message: "gone" }],
      [
        tensor("x", "U8", [4], [1, 2, 3]),
        { code: "E_INTERNAL", message: expect.stringContaining("takes 4 bytes, its source gave 3") },
      ],
      [
        tensor("x", "U8", [4], [1, 2, 3, 4, 5]),
        { code: "E_INTERNAL", message: expect.stringContaining("gave 5") },
      ],
    ];
    for (const [source, error] of sources) {
      await expect(writeSafetensors(path, [source])).rejects.toMatchObject(error);
    }
    const writer = await SafetensorsWriter.create(path, layoutData(ABC));
    await expect(writer.finish()).rejects.toMatchObject({ code: "E_INTERNAL" });
    await writer.discard();
    expect(readdirSync(folder)).toEqual([]);
  });

  it("stops when asked to", async () => {
    const controller = new AbortController();
    const options = { signal: controller.signal, onProgress: () => controller.abort() };
    await expect(writeSafetensors(path, ABC, options)).rejects.toMatchObject({
      code: "E_INTERRUPTED",
      exitCode: 130,
    });
    await expect(writeSafetensors(path, ABC, options)).rejects.toMatchObject({ code: "E_INTERRUPTED" });
    expect(readdirSync(folder)).toEqual([]);
  });

  it("on a full disk leaves the target and no temporary file", async (context) => {
    const disk = mountTinyDisk(256);
    if (disk === null) return context.skip("this user may not mount a tmpfs");
    try {
      const target = join(disk.path, "out.safetensors");
      writeFileSync(target, "mine");
      const big = tensor("t", "U8", [1 << 20], new Uint8Array(1 << 20));
      for (const bufferBytes of [1 << 12, 1 << 20]) {
        await expect(writeSafetensors(target, [big], { overwrite: true, bufferBytes })).rejects.toMatchObject(
          {
            code: "E_WRITE",
            message: expect.stringContaining("ENOSPC"),
          },
        );
        expect(readFileSync(target, "utf8")).toBe("mine");
        expect(readdirSync(disk.path)).toEqual(["out.safetensors"]);
      }
    } finally {
      disk.remove();
    }
  });

  it("names a folder that is missing or no folder", async () => {
    await expect(writeSafetensors(join(folder, "no", "x"), ABC)).rejects.toMatchObject({ code: "E_WRITE" });
    mkdirSync(path);
    await expect(writeSafetensors(path, ABC, { overwrite: true })).rejects.toMatchObject({ code: "E_WRITE" });
    expect(readdirSync(folder)).toEqual(["out.safetensors"]);
  });
});
