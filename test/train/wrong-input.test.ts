/** What goes wrong outside the program: a clear error, its exit status, and nothing lost or half-written. */
import { existsSync } from "node:fs";
import { cp, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { runCli } from "../../src/cli/main.js";
import { encodeFromFloat32, writeSafetensors } from "../../src/safetensors/index.js";
import { readMetrics } from "../../src/training/metrics-log.js";
import { readTrainState } from "../../src/training/state.js";
import { mountTinyDisk } from "../helpers/full-disk.js";
import { memoryTerminal } from "../helpers/memory-terminal.js";
import { everyKindOfModule, writeRandomAdapter } from "../helpers/random-adapter.js";
import { tempFolder } from "../helpers/temp-folder.js";
import { GOLDEN, pictureFolder, rawTensors, SLOW_MS, TINY_MODEL } from "../helpers/tiny-run.js";

let folder: string;
let pictures: string;
/** Rank 8, unit 4. */
let dylora: string;

beforeAll(async () => {
  folder = await tempFolder();
  pictures = await pictureFolder(2);
  dylora = join(folder, "dylora.safetensors");
  const metadata = {
    ss_network_module: "networks.dylora",
    ss_network_args: JSON.stringify({ unit: "4", alpha_rule: "paper" }),
  };
  await writeRandomAdapter(dylora, { modules: everyKindOfModule(8), metadata });
});

async function run(args: readonly string[]): Promise<{ status: number; stderr: string; stdout: string }> {
  const terminal = memoryTerminal();
  const status = await runCli(args, terminal);
  return { status, stderr: terminal.stderr.text, stdout: terminal.stdout.text };
}

interface TrainPlaces {
  model?: string;
  data?: string;
  out?: string;
}

const trainArgs = ({ model = TINY_MODEL, data = pictures, out = "" }: TrainPlaces, ...more: string[]) => [
  "train",
  `--pretrained_model_name_or_path=${model}`,
  `--train_data_dir=${data}`,
  `--output_dir=${out}`,
  "--resolution=16",
  "--network_dim=4",
  "--network_train_unet_only",
  "--device=cpu",
  "--threads=1",
  "--execution_mode=lean",
  "--max_train_steps=3",
  "--seed=7",
  ...more,
];

/** Everything below a folder, with sizes. */
async function contents(root: string): Promise<string[]> {
  const names = await readdir(root, { recursive: true });
  const entries = await Promise.all(
    names.map(async (name) => {
      const info = await stat(join(root, name));
      return info.isDirectory() ? `${name}/` : `${name} ${info.size}`;
    }),
  );
  return entries.sort();
}

/** A failure before the first step: an error with this code and these words, and an output folder without a file. */
async function expectRefusal(args: (out: string) => readonly string[], code: string, ...words: string[]) {
  const out = join(await tempFolder(), "out");
  const { status, stderr, stdout } = await run(args(out));
  expect(stderr).toContain(`error[${code}]: `);
  for (const word of words) expect(stderr).toContain(word);
  expect(stderr).not.toContain("    at ");
  expect(stdout).toBe("");
  if (existsSync(out)) expect(await contents(out)).toEqual([]);
  return status;
}

/** A file with this header, and so many bytes of data behind it. */
async function liar(name: string, header: string, dataBytes: number, statedBytes?: bigint): Promise<string> {
  const path = join(folder, name);
  const json = Buffer.from(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(statedBytes ?? BigInt(json.length));
  await writeFile(path, Buffer.concat([length, json, Buffer.alloc(dataBytes)]));
  return path;
}

const tensor = (begin: number, end: number, shape = [(end - begin) / 4]) =>
  `{"dtype":"F32","shape":[${shape}],"data_offsets":[${begin},${end}]}`;

describe("files that are not what they should be, wherever they are given", () => {
  /** [what, file, code, words] */
  const damaged: [string, () => Promise<string>, string, string][] = [
    ["missing", async () => join(folder, "no-such.safetensors"), "E_NOT_FOUND", "no-such.safetensors"],
    [
      "truncated",
      async () => {
        const path = join(folder, "cut.safetensors");
        const whole = await readFile(dylora);
        await writeFile(path, whole.subarray(0, whole.length - 100));
        return path;
      },
      "E_FORMAT",
      "truncated",
    ],
    [
      "tensors that overlap",
      () => liar("overlap.safetensors", `{"a":${tensor(0, 8)},"b":${tensor(4, 12)}}`, 12),
      "E_FORMAT",
      "overlap",
    ],
    [
      "a tensor out of bounds",
      () => liar("bounds.safetensors", `{"a":${tensor(0, 400)}}`, 8),
      "E_FORMAT",
      "400",
    ],
    [
      "a shape that overflows",
      () => liar("overflow.safetensors", `{"a":${tensor(0, 8, [2 ** 40, 2 ** 40])}}`, 8),
      "E_FORMAT",
      "overflow.safetensors",
    ],
    [
      "a header of 100 MB and more",
      () => liar("header.safetensors", "{}", 8, 100_000_001n),
      "E_FORMAT",
      "header",
    ],
  ];

  test.each(damaged)("%s", async (_, make, code, word) => {
    const path = await make();
    const commands: ((out: string) => string[])[] = [
      (out) => ["extract", path, "--all", `--out=${out}`],
      () => ["inspect", path],
      () => ["bench", path, `--pretrained_model_name_or_path=${TINY_MODEL}`, `--data=${pictures}`],
      (out) => trainArgs({ model: path, out }),
      (out) => trainArgs({ out }, `--network_weights=${path}`),
    ];
    for (const command of commands) expect(await expectRefusal(command, code, word)).toBe(3);
  });

  test("a LoRA whose factors are whole numbers", async () => {
    const path = join(folder, "integers.safetensors");
    const tensors = await rawTensors(dylora);
    await writeSafetensors(
      path,
      [...tensors].map(([name, { shape, bytes }]) => ({
        name,
        dtype: "I16",
        shape,
        data: () => bytes,
      })),
    );
    for (const command of [
      (out: string) => ["extract", path, "--all", `--out=${out}`],
      (out: string) => trainArgs({ out }, `--network_weights=${path}`),
      () => ["bench", path, `--pretrained_model_name_or_path=${TINY_MODEL}`, `--data=${pictures}`],
    ]) {
      expect(await expectRefusal(command, "E_INCOMPATIBLE", "I16")).toBe(3);
    }
  });

  test("a checkpoint with a weight of whole numbers", async () => {
    const path = await changedModel("whole.safetensors", "I16", (bytes) => bytes);
    expect(await expectRefusal((out) => trainArgs({ model: path, out }), "E_INCOMPATIBLE", "I16")).toBe(3);
  });

  test.skipIf(!existsSync(GOLDEN))("an adapter of another base model", async () => {
    const foreign = join(GOLDEN, "sd2-tiny/lora.safetensors");
    const bench = () => [
      "bench",
      foreign,
      `--pretrained_model_name_or_path=${TINY_MODEL}`,
      `--data=${pictures}`,
      "--device=cpu",
    ];
    expect(await expectRefusal(bench, "E_INCOMPATIBLE", "modules do not fit", "seems made for")).toBe(3);
  });
});

/** The weight that the changed checkpoints differ in, as the file names it. */
const CHANGED = "model.diffusion_model.out.2.bias";

/** The fixture with other bytes, or another type, for one weight. */
async function changedModel(
  name: string,
  dtype: "I16" | "F16",
  change: (bytes: Uint8Array) => Uint8Array,
): Promise<string> {
  const path = join(folder, name);
  const tensors = await rawTensors(TINY_MODEL);
  expect(tensors.has(CHANGED)).toBe(true);
  await writeSafetensors(
    path,
    [...tensors].map(([key, { shape, bytes, dtype: own }]) => ({
      name: key,
      dtype: key === CHANGED ? dtype : (own as "F16"),
      shape,
      data: () => (key === CHANGED ? change(bytes) : bytes),
    })),
  );
  return path;
}

describe("ranks", () => {
  test.each([
    ["above the maximum", "--ranks=4,16", "rank 16 is above the largest rank, 8"],
    ["not a multiple of the unit", "--ranks=3", "rank 3 is no multiple of the unit 4"],
  ])("to extract: %s", async (_, ranks, message) => {
    const extract = (out: string) => ["extract", dylora, ranks, `--out=${out}`];
    expect(await expectRefusal(extract, "E_RANK", message)).toBe(2);
  });

  test("a maximum that is not a multiple of the unit", async () => {
    const command = (out: string) => trainArgs({ out }, "--network_args", "unit=3");
    expect(await expectRefusal(command, "E_RANK", "--network_dim 3 or 6")).toBe(2);
  });
});

describe("data", () => {
  test("an empty folder", async () => {
    const data = await tempFolder();
    expect(await expectRefusal((out) => trainArgs({ data, out }), "E_DATA", data)).toBe(2);
  });

  test("folder names without a repeat count", async () => {
    const data = await tempFolder();
    await cp(join(pictures, "2_emoji"), join(data, "emoji"), { recursive: true });
    const command = (out: string) => trainArgs({ data, out });
    expect(await expectRefusal(command, "E_DATA", 'Rename "', "1_emoji")).toBe(2);
  });

  test("no picture that can be read", async () => {
    const data = await tempFolder({ "3_cat/a.png": "not a picture", "3_cat/b.jpg": "neither" });
    const command = (out: string) => trainArgs({ data, out });
    expect(await expectRefusal(command, "E_DATA", "none of 2 images can be read", "a.png", "b.jpg")).toBe(2);
  });

  test(
    "one that cannot be read is named and skipped, and the run goes on without it",
    async () => {
      const data = await tempFolder();
      await cp(pictures, data, { recursive: true });
      await writeFile(join(data, "2_emoji", "broken.png"), "not a picture");
      const out = await tempFolder();
      const { status, stderr } = await run(trainArgs({ data, out }, "--max_train_steps=1"));
      expect(status, stderr).toBe(0);
      expect(stderr).toMatch(/warning: skipped 1 image that cannot be read, 2 left:\n.*broken\.png/);
      expect(await readdir(out)).toContain("last.safetensors");
    },
    SLOW_MS,
  );
});

describe("a loss that is not finite", () => {
  test(
    "a learning rate that no model bears: the run stops, and nothing worthless is saved",
    async () => {
      const out = await tempFolder();
      const { status, stderr } = await run(trainArgs({ out }, "--learning_rate=1e30", "--save_state"));
      expect(status).toBe(5);
      expect(stderr).toContain("error[E_DIVERGED]: training diverged at step 2: the loss is");
      expect(stderr).toContain("Nothing was learned that could be saved.");
      // What happened, as numbers and as a page.
      expect(await readdir(out)).toEqual(["last.html", "metrics.jsonl"]);
    },
    SLOW_MS,
  );

  test(
    "after good steps: the last good state is saved, and goes on with another rate",
    async () => {
      const out = await tempFolder();
      // Harmless for three steps, then 1e30.
      const schedule = (rule: string) => [
        "--lr_scheduler=piecewise_constant",
        `--lr_scheduler_args=step_rules=${rule}`,
      ];
      const args = trainArgs({ out }, "--learning_rate=1e-2", "--max_train_steps=6");
      const failed = await run([...args, ...schedule("1:3,1e32:9,1"), "--save_every_n_steps=2"]);
      expect(failed.status, failed.stderr).toBe(5);
      expect(failed.stderr).toContain("error[E_DIVERGED]: training diverged at step 5");
      const state = /go on with a lower rate, dylora resume (\S+) --learning_rate 0.001/.exec(
        failed.stderr,
      )?.[1];
      expect(state, failed.stderr).toBeDefined();
      // The factors that step 4 spoilt are not in it.
      const { step, tensors } = await readTrainState(state!);
      expect([1, 2, 3]).toContain(step);
      for (const values of tensors.values()) {
        expect(values.every((value) => Number.isFinite(value) && Math.abs(value) < 100)).toBe(true);
      }
      // Files that were saved before are still there.
      expect(await readdir(out)).toContain("last-step00000002.safetensors");

      const resumed = await run(["resume", state!, ...schedule("1:3,0.1"), "--learning_rate=1e-3"]);
      expect(resumed.status, resumed.stderr).toBe(0);
      const steps = (await readMetrics(join(out, "metrics.jsonl"))).filter((record) => "loss" in record);
      expect(steps.map((record) => record.step)).toEqual([1, 2, 3, 4, 5, 6]);
      expect(steps.every(({ loss }) => Number.isFinite(loss))).toBe(true);
    },
    SLOW_MS,
  );

  test(
    "a checkpoint that holds infinity",
    async () => {
      const model = await changedModel("infinite.safetensors", "F16", (bytes) =>
        encodeFromFloat32(new Float32Array(bytes.length / 2).fill(Number.POSITIVE_INFINITY), "F16"),
      );
      const out = await tempFolder();
      const { status, stderr } = await run(trainArgs({ model, out }));
      expect(status).toBe(5);
      expect(stderr).toContain("error[E_DIVERGED]: training diverged at step 1");
      // What happened, as numbers and as a page.
      expect(await readdir(out)).toEqual(["last.html", "metrics.jsonl"]);
    },
    SLOW_MS,
  );
});

describe("places that cannot be written to", () => {
  test("an output folder below a file", async () => {
    const out = join(TINY_MODEL, "out");
    const { status, stderr } = await run(trainArgs({ out }));
    expect(status).toBe(1);
    expect(stderr).toContain(`error[E_WRITE]: write ${out}: a part of the path is not a folder (ENOTDIR)`);
    const extracted = await run(["extract", dylora, "--all", `--out=${out}`]);
    expect(extracted.status).toBe(1);
    expect(extracted.stderr).toContain("error[E_WRITE]");
  });

  test("an output folder that is a file", async () => {
    const out = join(folder, "a-file");
    await writeFile(out, "mine");
    const { status, stderr } = await run(trainArgs({ out }));
    expect(status).toBe(1);
    expect(stderr).toContain("error[E_WRITE]");
    expect(await readFile(out, "utf8")).toBe("mine");
  });

  test(
    "a full disk: what was saved before is whole and goes on elsewhere, and nothing is half-written",
    async (context) => {
      // Room for one LoRA file and one state of the run, not for two of each.
      const disk = mountTinyDisk(4096);
      if (disk === null) {
        context.skip("this user may not mount a tmpfs");
        return;
      }
      try {
        const out = join(disk.path, "out");
        const args = trainArgs({ out }, "--save_state", "--save_every_n_steps=1", "--max_train_steps=9");
        const { status, stderr } = await run(args);
        expect(status, stderr).toBe(1);
        expect(stderr).toMatch(/error\[E_WRITE\]: write \S+: no space left on the device \(ENOSPC\)/);
        const names = await contents(out);
        expect(names.filter((name) => /\.tmp\b/.test(name))).toEqual([]);
        const states = names.filter((name) => /-state\/$/.test(name)).map((name) => name.slice(0, -1));
        expect(states.length).toBeGreaterThan(0);
        for (const name of names.filter((entry) => /safetensors \d+$/.test(entry))) {
          expect((await rawTensors(join(out, name.replace(/ \d+$/, "")))).size).toBeGreaterThan(0);
        }
        const last = join(out, states.sort().at(-1)!);
        const elsewhere = await tempFolder();
        const resumed = await run(["resume", last, `--output_dir=${elsewhere}`, "--save_every_n_steps=100"]);
        expect(resumed.status, resumed.stderr).toBe(0);
        expect(await readdir(elsewhere)).toContain("last.safetensors");
      } finally {
        disk.remove();
      }
    },
    SLOW_MS,
  );
});

test("a cache that cannot be kept is an error before the first step", async () => {
  const data = await tempFolder();
  await cp(pictures, data, { recursive: true });
  await writeFile(join(data, ".dylora-cache"), "a file where the cache's folder should be");
  const command = (out: string) => trainArgs({ data, out }, "--cache_latents_to_disk");
  expect(await expectRefusal(command, "E_WRITE", ".dylora-cache")).toBe(1);
});
