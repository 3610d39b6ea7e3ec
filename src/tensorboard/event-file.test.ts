import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { afterEach, describe, expect, it } from "vitest";
import { crc32c } from "./crc32c.js";
import { EventFile } from "./event-file.js";

const folder = mkdtempSync(join(tmpdir(), "dylora-events-"));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe("crc32c", () => {
  it("gives the check values of RFC 3720, appendix B.4", () => {
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
    expect(crc32c(Uint8Array.from({ length: 32 }, (_, index) => index))).toBe(0x46dd794e);
    expect(crc32c(new TextEncoder().encode("123456789"))).toBe(0xe3069283);
  });
});

/** Splits a file into records; the checksums are checked by masking as tensorflow/core/lib/hash/crc32c.h writes it. */
function records(bytes: Uint8Array): Uint8Array[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const unmask = (masked: number) => {
    const rotated = (masked - 0xa282ead8) >>> 0;
    return ((rotated >>> 17) | (rotated << 15)) >>> 0;
  };
  const found: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = Number(view.getBigUint64(at, true));
    expect(unmask(view.getUint32(at + 8, true))).toBe(crc32c(bytes.subarray(at, at + 8)));
    const data = bytes.subarray(at + 12, at + 12 + length);
    expect(unmask(view.getUint32(at + 12 + length, true))).toBe(crc32c(data));
    found.push(data);
    at += 16 + length;
  }
  return found;
}

interface Fields {
  [field: number]: (Uint8Array | number)[];
}

function fields(message: Uint8Array): Fields {
  const reader = new BinaryReader(message);
  const found: Fields = {};
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    const value =
      wireType === 0
        ? Number(reader.int64())
        : wireType === 1
          ? reader.double()
          : wireType === 5
            ? reader.float()
            : reader.bytes();
    found[field] = [...(found[field] ?? []), value];
  }
  return found;
}

const text = (value: Uint8Array | number | undefined) => new TextDecoder().decode(value as Uint8Array);

describe("EventFile", () => {
  it("writes the version, the start of the session and scalars as TensorBoard reads them", () => {
    const now = new Date("2026-11-22T12:00:00.500Z");
    const file = new EventFile(folder, 40, now);
    file.scalars(41, { "loss/current": 0.25, "lr/unet": 1e-4 }, now);
    file.close();
    const [version, start, scalars] = records(readFileSync(file.path)).map(fields);
    expect(version![1]).toEqual([1795348800.5]);
    expect(text(version![3]![0])).toBe("brain.Event:2");
    expect(start![2]).toEqual([40]);
    expect(fields(start![7]![0] as Uint8Array)[1]).toEqual([1]);
    expect(scalars![2]).toEqual([41]);
    const values = fields(scalars![5]![0] as Uint8Array)[1]!.map((value) => fields(value as Uint8Array));
    expect(values.map((value) => [text(value[1]![0]), value[2]![0]])).toEqual([
      ["loss/current", 0.25],
      ["lr/unet", Math.fround(1e-4)],
    ]);
  });
});
