import { join } from "node:path";
import { expect, test } from "vitest";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { DiskTensorCache, MemoryTensorCache } from "./tensor-cache.js";
import { TextCache } from "./text-cache.js";

const IDS = [49406, 320, 2368, 49407];

function counting() {
  const calls: (readonly number[])[] = [];
  const encode = async (ids: readonly number[]) => {
    calls.push(ids);
    return Float32Array.from(ids.flatMap((id) => [id, -id / 2, 1 / id]));
  };
  return { calls, encode };
}

test("encodes each prompt once for each encoder and clip skip, over several runs", async () => {
  const dir = join(await tempFolder(), "cache");
  const { calls, encode } = counting();
  const read = async (ids: readonly number[], encoderIdentity: string, clipSkip: number) => {
    const cache = await DiskTensorCache.open(dir);
    return new TextCache({ cache, encoderIdentity, clipSkip, encode }).read(ids);
  };
  const states = await read(IDS, "clip 1", 1);
  expect(states).toEqual(await encode(IDS));
  calls.length = 0;
  expect(await read(IDS, "clip 1", 1)).toEqual(states);
  expect(calls).toHaveLength(0);
  await read(IDS, "clip 2", 1);
  await read(IDS, "clip 1", 2);
  await read([49406, 320, 2369, 49407], "clip 1", 1);
  expect(calls).toHaveLength(3);
});

test("refuses states that are not finite", async () => {
  const cache = new MemoryTensorCache();
  const encode = async () => Float32Array.of(1, Number.POSITIVE_INFINITY);
  const texts = new TextCache({ cache, encoderIdentity: "clip", clipSkip: 1, encode });
  await expect(texts.read(IDS)).rejects.toMatchObject({ code: "E_DIVERGED" });
});
