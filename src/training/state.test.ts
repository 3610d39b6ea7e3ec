import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { DyloraError } from "../errors.js";
import { randomStream } from "../random/stream.js";
import { adamW, createFactorState } from "./optimizer/index.js";
import { compareIdentities, readTrainState, type TrainStateFacts, writeTrainState } from "./state.js";
import { factorTensors, restoreFactor } from "./state-tensors.js";

let root: string;
let folder: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "dylora-state-"));
  folder = join(root, "cat-state");
});

afterEach(() => rm(root, { recursive: true, force: true }));

const [rank, width] = [4, 6];
const NAME = "lora_unet_mid_block_attentions_0_proj_in.lora_down";

/** A factor and its optimizer state after some steps. */
function factor(seed: number) {
  const optimizer = adamW();
  const values = randomStream(seed, "values").fillNormal(new Float32Array(rank * width));
  const state = createFactorState(optimizer, rank, width);
  for (const end of [4, 2, 3]) {
    const gradient = randomStream(seed, "gradient", end).fillNormal(new Float32Array(end * width));
    optimizer.step({ values, state, rows: { begin: 0, end }, gradient, learningRate: 0.1 });
  }
  return { values, state };
}

const facts = (step: number): TrainStateFacts => ({
  step,
  config: { network_dim: rank, learning_rate: 0.1, network_args: ["unit=1"] },
  identities: { base_model: "abc", data: "def" },
  progress: { loss: { overall: { weightedSum: 0.1 + 0.2, weight: 1.7, count: 2 } } },
});

const save = (step: number, seed = step) => {
  const { values, state } = factor(seed);
  return writeTrainState(folder, facts(step), factorTensors(NAME, values, state));
};

async function refusal(action: Promise<unknown>): Promise<DyloraError> {
  const error = await action.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (error instanceof DyloraError) return error;
  throw new Error(`expected a DyloraError, got ${error}`);
}

async function expectState(step: number, seed = step): Promise<void> {
  const { tensors, ...rest } = await readTrainState(folder);
  expect(rest).toEqual(facts(step));
  const fresh = { values: new Float32Array(rank * width), state: createFactorState(adamW(), rank, width) };
  restoreFactor(tensors, NAME, fresh.values, fresh.state);
  expect(fresh).toEqual(factor(seed));
}

describe("writeTrainState and readTrainState", () => {
  it("bring everything back to the last bit", async () => {
    const { sizeBytes } = await save(400);
    expect((await readdir(folder)).sort()).toEqual([
      "train_state-step00000400.safetensors",
      "train_state.json",
    ]);
    const sizes = await Promise.all(
      (await readdir(folder)).map(async (name) => (await readFile(join(folder, name))).length),
    );
    expect(sizeBytes).toBe(sizes[0]! + sizes[1]!);
    await expectState(400);
  });

  it("write the same bytes for the same state", async () => {
    await save(400);
    const first = await readFile(join(folder, "train_state.json"));
    await rm(folder, { recursive: true });
    await save(400);
    expect(await readFile(join(folder, "train_state.json"))).toEqual(first);
  });

  it("replace the state before, also one of the same step, and clear up what a kill left", async () => {
    await save(100);
    await save(200);
    expect((await readdir(folder)).sort()).toEqual([
      "train_state-step00000200.safetensors",
      "train_state.json",
    ]);
    await save(200, 7);
    expect((await readdir(folder)).sort()).toEqual([
      "train_state-step00000200-1.safetensors",
      "train_state.json",
    ]);
    await expectState(200, 7);
    const others = ["notes.txt", "train_state-stepX.safetensors"];
    for (const name of [
      ...others,
      "train_state-step00000300.safetensors",
      ".train_state-step00000300.safetensors.0a1b2c.tmp",
      ".train_state.json.0a1b2c.tmp",
    ]) {
      await writeFile(join(folder, name), "x");
    }
    await save(300);
    expect((await readdir(folder)).sort()).toEqual(
      [...others, "train_state-step00000300-1.safetensors", "train_state.json"].sort(),
    );
    await expectState(300);
  });

  it("keep the old state when the new one cannot be written, and leave nothing behind", async () => {
    await save(100);
    const before = (await readdir(folder)).sort();
    const { values, state } = factor(2);
    const tensors = factorTensors(NAME, values, state);
    const failing = { ...tensors[0]!, name: "short", data: new Float32Array(3) };
    expect((await refusal(writeTrainState(folder, facts(200), [...tensors, failing]))).code).toBe(
      "E_INTERNAL",
    );
    const stopped = writeTrainState(folder, facts(200), tensors, { signal: AbortSignal.abort() });
    expect((await refusal(stopped)).code).toBe("E_INTERRUPTED");
    expect((await readdir(folder)).sort()).toEqual(before);
    await expectState(100);

    const elsewhere = join(root, "new-state");
    await refusal(writeTrainState(elsewhere, facts(200), tensors, { signal: AbortSignal.abort() }));
    expect(await readdir(root)).toEqual(["cat-state"]);
    await writeFile(join(root, "file"), "");
    expect((await refusal(writeTrainState(join(root, "file", "x"), facts(1), tensors))).code).toBe("E_WRITE");
  });
});

describe("a state that is not whole", () => {
  const change = async (edit: (document: Record<string, unknown>) => void) => {
    const path = join(folder, "train_state.json");
    const document = JSON.parse(await readFile(path, "utf8"));
    edit(document);
    await writeFile(path, JSON.stringify(document));
  };

  it("every flipped byte of the data is found", async () => {
    await save(400);
    const path = join(folder, "train_state-step00000400.safetensors");
    const good = await readFile(path);
    const headerBytes = 8 + Number(good.readBigUInt64LE(0));
    for (let position = headerBytes; position < good.length; position += 37) {
      const bad = Buffer.from(good);
      bad[position]! ^= 0x10;
      await writeFile(path, bad);
      const error = await refusal(readTrainState(folder));
      expect(error.code).toBe("E_FORMAT");
      expect(error.message).toContain("SHA-256 differs");
    }
    await writeFile(path, good.subarray(0, good.length - 4));
    expect((await refusal(readTrainState(folder))).code).toBe("E_FORMAT");
    await rm(path);
    const error = await refusal(readTrainState(folder));
    expect(error.code).toBe("E_FORMAT");
    expect(error.message).toContain("damaged");
  });

  it("a data file of another state is found", async () => {
    await save(400);
    const path = join(folder, "train_state-step00000400.safetensors");
    const { values, state } = factor(1);
    const other = factorTensors(`${NAME}.a.longer.name`, values, state);
    await writeTrainState(join(root, "other"), facts(400), other);
    await writeFile(path, await readFile(join(root, "other", "train_state-step00000400.safetensors")));
    expect((await refusal(readTrainState(folder))).message).toMatch(/has \d+ bytes, \d+ were saved/);
  });

  it.each([
    ["no JSON", "{", "E_FORMAT", "train_state.json is not JSON", "another state"],
    ["null", "null", "E_INCOMPATIBLE", "is not a state of dylora", "another program"],
    [
      "of sd-scripts",
      '{"current_epoch":1,"current_step":40}',
      "E_INCOMPATIBLE",
      "not a state of dylora",
      "sd-scripts",
    ],
  ])("train_state.json %s", async (_, content, code, message, note) => {
    await save(400);
    await writeFile(join(folder, "train_state.json"), content);
    const error = await refusal(readTrainState(folder));
    expect(error.code).toBe(code);
    expect(error.message).toContain(message);
    expect(error.note).toContain(note);
  });

  it("train_state.json of a newer version, without a part, or pointing elsewhere", async () => {
    const edits: [(document: Record<string, unknown>) => void, string, string][] = [
      [(document) => Object.assign(document, { schemaVersion: 2 }), "E_INCOMPATIBLE", "state format 2"],
      [(document) => delete document.data, "E_FORMAT", "lacks a part"],
      [(document) => delete document.config, "E_FORMAT", "lacks a part"],
      [(document) => Object.assign(document, { step: -1 }), "E_FORMAT", "lacks a part"],
      [(document) => Object.assign(document, { identities: { a: 1 } }), "E_FORMAT", "lacks a part"],
      [
        (document) => Object.assign(document.data as object, { file: "../x.safetensors" }),
        "E_FORMAT",
        "lacks a part",
      ],
      [(document) => Object.assign(document.data as object, { sizeBytes: 5 }), "E_FORMAT", "5 were saved"],
    ];
    for (const [edit, code, message] of edits) {
      await rm(folder, { recursive: true, force: true });
      await save(400);
      await change(edit);
      const error = await refusal(readTrainState(folder));
      expect(error.code).toBe(code);
      expect(error.message).toContain(message);
    }
  });

  it("no folder, an empty one, an unfinished one, a file", async () => {
    const missing = await refusal(readTrainState(folder));
    expect([missing.code, missing.message]).toEqual(["E_NOT_FOUND", `resume: there is no folder ${folder}`]);
    await mkdir(folder);
    const empty = await refusal(readTrainState(folder));
    expect(empty.code).toBe("E_NOT_FOUND");
    expect(empty.note).toContain("--save_state");
    await writeFile(join(folder, ".train_state-step00000400.safetensors.0a1b2c.tmp"), "x");
    expect((await refusal(readTrainState(folder))).note).toContain("while this state was being written");
    const file = join(root, "cat.safetensors");
    await writeFile(file, "x");
    const error = await refusal(readTrainState(file));
    expect(error.code).toBe("E_INCOMPATIBLE");
    expect(error.note).toContain("--network_weights");
  });
});

describe("restoreFactor", () => {
  it("refuses another size, another type and what is missing, and fills nothing then", () => {
    const { values, state } = factor(1);
    const all = factorTensors(NAME, values, state);
    const target = { values: new Float32Array(rank * width), state: createFactorState(adamW(), rank, width) };
    const map = (edit: (tensors: Map<string, Float32Array | Uint32Array>) => void) => {
      const tensors = new Map(all.map(({ name, data }) => [name, data]));
      edit(tensors);
      return tensors;
    };
    const cases: [Map<string, Float32Array | Uint32Array>, string][] = [
      [
        map((tensors) => tensors.delete(`${NAME}.steps`)),
        `${NAME}.steps: expected 4 counts, the state has nothing`,
      ],
      [
        map((tensors) => tensors.set(NAME, new Float32Array(12))),
        "expected 24 float32 values, the state has 12",
      ],
      [
        map((tensors) => tensors.set(`${NAME}.steps`, new Float32Array(4))),
        "expected 4 counts, the state has 4 float32",
      ],
    ];
    for (const [tensors, message] of cases) {
      expect(() => restoreFactor(tensors, NAME, target.values, target.state)).toThrow(message);
      expect(target.values.every((value) => value === 0)).toBe(true);
      expect([...target.state.steps]).toEqual([0, 0, 0, 0]);
    }
  });
});

describe("compareIdentities", () => {
  it("names every difference with both values", () => {
    expect(() => compareIdentities({ a: "1", b: "2" }, { b: "2", a: "1" })).not.toThrow();
    const compare = () =>
      compareIdentities({ model: "aa", data: "x", old: "o" }, { model: "bb", data: "x", extra: "e" });
    expect(compare).toThrow(
      "resume: model is aa in the state and bb now; old is o in the state and not there now; extra is not there in the state and e now",
    );
    expect(compare).toThrow(expect.objectContaining({ code: "E_INCOMPATIBLE" }));
  });
});
