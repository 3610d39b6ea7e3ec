import { appendFileSync, existsSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { mountTinyDisk } from "../../test/helpers/full-disk.js";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { type LossRecord, LossStore } from "./loss-store.js";

let folder: string;
let path: string;
let files = 0;

beforeAll(async () => {
  folder = await tempFolder();
});
beforeEach(() => {
  path = join(folder, `${files++}.jsonl`);
});

const record = (sample: string, loss = 0.1, changes: Partial<LossRecord> = {}): LossRecord => ({
  ...{ model: "m", adapter: "a", sample, loss, seconds: 0.5, setting: "here" },
  ...{ adapterName: "rank 8 of cat", image: "cat.png", timestep: 12 },
  ...changes,
});
const key = (sample: string, changes: Partial<LossRecord> = {}) => record(sample, 0, changes);

/** A store on disk with these losses, closed. */
function written(...records: LossRecord[]): void {
  const store = LossStore.open(path);
  store.add(records);
  store.close();
}

describe("LossStore", () => {
  test("what is added is found again, here and by the next one that opens the file", () => {
    const store = LossStore.open(path);
    store.add([record("s", 0.25), record("t", 0.5)]);
    expect(store.find(key("s"))!.loss).toBe(0.25);
    // Before it is closed: a process that is killed closes nothing.
    const next = LossStore.open(path);
    expect(next.size).toBe(2);
    expect(next.find(key("t"))).toEqual(record("t", 0.5));
    expect([next.path, next.unreadableLines]).toEqual([path, 0]);
    store.close();
  });

  test("another model, adapter or sample is another loss", () => {
    written(record("s"));
    const store = LossStore.open(path);
    expect(store.find(key("s"))).not.toBeNull();
    for (const other of [
      key("other"),
      key("s", { model: "other" }),
      key("s", { adapter: "other" }),
      key("", { adapter: "a s" }),
    ]) {
      expect(store.find(other)).toBeNull();
    }
  });

  test("no file is made before there is something to keep, or somebody asks whether it can be written", () => {
    const store = LossStore.open(path);
    expect(existsSync(path)).toBe(false);
    store.add([]);
    expect(existsSync(path)).toBe(true);
    store.close();
    expect(LossStore.open(path).size).toBe(0);
    expect(() => LossStore.open(join(folder, "no", "x")).add([])).toThrow(
      expect.objectContaining({ code: "E_WRITE", note: expect.stringContaining("Create the folder") }),
    );
  });

  test("a line that was torn by a kill is taken off, wherever it was torn", () => {
    written(record("s"), record("t"));
    const whole = readFileSync(path, "utf8");
    const lastLine = whole.trimEnd().lastIndexOf("\n") + 1;
    for (const length of [lastLine, lastLine + 1, whole.length - 2, whole.length - 1]) {
      writeFileSync(path, whole.slice(0, length));
      const store = LossStore.open(path);
      expect(store.size).toBe(1);
      store.add([record("u")]);
      store.close();
      const again = LossStore.open(path);
      expect([again.size, again.unreadableLines]).toEqual([2, 0]);
    }
  });

  test("a header that was torn is written anew", () => {
    written();
    const { size } = statSync(path);
    for (const length of [0, 1, size - 1]) {
      truncateSync(path, length);
      written(record("s"));
      expect(LossStore.open(path).size).toBe(1);
      truncateSync(path, size);
    }
  });

  test("lines that are no losses are counted and left where they are", () => {
    written(record("s"));
    for (const line of [
      "null",
      "{}",
      "{",
      JSON.stringify({ ...record("t"), loss: null }),
      JSON.stringify({ ...record("t"), sample: 1 }),
    ]) {
      appendFileSync(path, `${line}\n`);
    }
    const store = LossStore.open(path);
    expect([store.size, store.unreadableLines]).toEqual([1, 5]);
    store.add([record("u")]);
    store.close();
    expect(readFileSync(path, "utf8").split("\n")).toHaveLength(1 + 1 + 5 + 1 + 1);
  });

  test.each(["{}\n", "not ours", '{"format":"dylora losses","version":2}\n', "\0\0\0\0"])(
    "another file is refused and left as it is: %j",
    (content) => {
      writeFileSync(path, content);
      expect(() => LossStore.open(path)).toThrow(expect.objectContaining({ code: "E_FORMAT" }));
      expect(() => LossStore.inMemory().keep(path)).toThrow(expect.objectContaining({ code: "E_FORMAT" }));
      expect(readFileSync(path, "utf8")).toBe(content);
    },
  );

  test("a folder is no file", () => {
    expect(() => LossStore.open(folder)).toThrow(expect.objectContaining({ code: "E_READ" }));
  });

  test("what was only in memory can be kept later, beside what a file has", () => {
    written(record("s", 0.25));
    const store = LossStore.inMemory();
    store.add([record("t"), record("u")]);
    expect(store.path).toBeNull();
    store.keep(path);
    store.close();
    expect([...LossStore.open(path).records].map(({ sample }) => sample).sort()).toEqual(["s", "t", "u"]);
  });

  test("on a full disk the losses before are whole", (context) => {
    const disk = mountTinyDisk(64);
    if (disk === null) return context.skip("this user may not mount a tmpfs");
    try {
      const full = join(disk.path, "l.jsonl");
      const store = LossStore.open(full);
      const fill = () => {
        for (let i = 0; i < 10_000; i++) store.add([record(`sample ${i}`)]);
      };
      expect(fill).toThrow(
        expect.objectContaining({ code: "E_WRITE", note: expect.stringContaining("whole") }),
      );
      store.close();
      const again = LossStore.open(full);
      expect(again.size).toBeGreaterThan(100);
      expect(again.unreadableLines).toBe(0);
    } finally {
      disk.remove();
    }
  });
});
