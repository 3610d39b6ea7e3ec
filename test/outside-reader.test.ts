/**
 * Every kind of file that a command writes, read by what no one here wrote: the rules of the safetensors reference, byte for
 * byte, and PyTorch where it is installed.
 */
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { everyKindOfModule, writeRandomAdapter } from "./helpers/random-adapter.js";
import { modulesForModel, writeRandomDiffusers, writeRandomSingleFile } from "./helpers/random-checkpoint.js";
import { expectReferenceLayout } from "./helpers/reference-file.js";
import { runInProcess } from "./helpers/run-in-process.js";
import { tempFolder } from "./helpers/temp-folder.js";
import { SD1_TINY } from "./helpers/tiny-checkpoints.js";

/** Debian's: it has PyTorch where `python3-torch` is installed. */
const PYTHON = "/usr/bin/python3";
const READER = fileURLToPath(new URL("helpers/read_with_torch.py", import.meta.url));

const hasTorch = spawnSync(PYTHON, ["-c", "import torch"]).status === 0;

interface Written {
  /** The command, without the files' folder. */
  readonly line: string;
  readonly file: string;
  readonly dialect?: "diffusers" | "peft" | "model";
  /** What the file's products must be; null where PyTorch is not asked. */
  readonly terms: readonly (readonly [file: string, ratio: number, prefix?: number])[] | null;
  readonly rank?: number;
  /** Largest relative error of a module. Default: float32's rounding. */
  readonly tolerance?: number;
  /** Where the whole weights are compared: the folder that the adapter was added to. */
  readonly base?: string;
}

const FLOAT32 = 1e-6;
/** Of a product whose factors are rounded to 11 bits. */
const FLOAT16 = 2 ** -10;

const WRITTEN: readonly Written[] = [
  // The paper's rule, which keeps alpha: alpha / 2 in place of alpha / R.
  {
    line: "extract cat.safetensors --ranks 2 --alpha-rule paper",
    file: "cat-r2.safetensors",
    terms: [["cat", 1, 2]],
    tolerance: 1e-12,
  },
  {
    line: "extract cat.safetensors --ranks 2 --alpha-rule paper --dtype BF16 --name bf-{rank}",
    file: "bf-2.safetensors",
    terms: [["cat", 1, 2]],
    tolerance: 2 ** -7,
  },
  { line: "resize cat.safetensors --ranks 3", file: "cat-r3.safetensors", terms: [["cat", 1]], rank: 3 },
  {
    line: "resize cat.safetensors --ranks 3 --dtype F16 --out half.safetensors",
    file: "half.safetensors",
    terms: [["cat", 1]],
    rank: 3,
    tolerance: FLOAT16,
  },
  { line: "nest cat.safetensors --out nest.safetensors", file: "nest.safetensors", terms: [["cat", 1]] },
  {
    line: "merge cat.safetensors ink.safetensors --ratios 0.5 -2 --out sum.safetensors",
    file: "sum.safetensors",
    terms: [
      ["cat", 0.5],
      ["ink", -2],
    ],
  },
  {
    line: "merge cat.safetensors ink.safetensors --rank 5 --out cut.safetensors",
    file: "cut.safetensors",
    terms: [
      ["cat", 1],
      ["ink", 1],
    ],
    rank: 5,
  },
  {
    line: "convert cat.safetensors --to diffusers --out diffusers.safetensors",
    file: "diffusers.safetensors",
    dialect: "diffusers",
    terms: [["cat", 1]],
    tolerance: 1e-12,
  },
  {
    line: "convert cat.safetensors --to peft --out peft",
    file: "peft",
    dialect: "peft",
    terms: [["cat", 1]],
    tolerance: 1e-12,
  },
  {
    line: "convert diffusers.safetensors --to kohya --out back.safetensors",
    file: "back.safetensors",
    terms: [["cat", 1]],
    tolerance: 1e-12,
  },
  {
    line: "edit cat.safetensors --set title=Käse --out edited.safetensors",
    file: "edited.safetensors",
    terms: [["cat", 1]],
    tolerance: 1e-12,
  },
  {
    line: "merge tiny.safetensors --ratios -1.5 --into base --out merged",
    file: "merged",
    dialect: "model",
    terms: [["tiny", -1.5]],
    base: "base",
  },
  {
    line: "merge tiny.safetensors --into base.safetensors --out merged.safetensors",
    file: "merged.safetensors",
    terms: null,
  },
  {
    line: "diff base.safetensors merged.safetensors --rank 3 --dtype F32 --out diff.safetensors",
    file: "diff.safetensors",
    terms: [["tiny", 1]],
    // The sums were rounded to float32.
    tolerance: 1e-5,
  },
];

let cwd: string;
const at = (name: string) => path.join(cwd, name);

beforeAll(async () => {
  cwd = await tempFolder();
  const metadata = { ss_network_module: "networks.dylora", ss_network_args: '{"unit": "1"}' };
  const cat = { modules: everyKindOfModule(6, 4), alpha: 3, metadata, hashes: true };
  await writeRandomAdapter(at("cat.safetensors"), { ...cat, dtype: "F32" });
  await writeRandomAdapter(at("ink.safetensors"), { modules: everyKindOfModule(4), seed: 70, alpha: null });
  await writeRandomAdapter(at("tiny.safetensors"), {
    modules: modulesForModel(SD1_TINY, 3),
    alpha: 8,
    seed: 7,
  });
  await writeRandomDiffusers(at("base"), SD1_TINY, "F32");
  await writeRandomSingleFile(at("base.safetensors"), SD1_TINY, "F32");
  for (const { line } of WRITTEN) {
    const result = await runInProcess(line.split(" "), { cwd });
    expect({ line, ...result }).toMatchObject({ status: 0, stderr: "" });
  }
});

describe("the reference's layout", () => {
  test.each(WRITTEN)("$line", ({ file }) => {
    const files = file.endsWith(".safetensors") ? [file] : safetensorsIn(file);
    expect(files.length).toBeGreaterThan(0);
    for (const name of files) expectReferenceLayout(at(name));
  });
});

function safetensorsIn(folder: string): string[] {
  return readdirSync(at(folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".safetensors"))
    .map((name) => path.join(folder, name));
}

interface Reading {
  readonly modules: Readonly<Record<string, number>>;
  readonly missing: readonly string[];
  readonly extra: readonly string[];
}

describe.skipIf(!hasTorch)("PyTorch", () => {
  const read = WRITTEN.filter(({ terms }) => terms !== null);
  const readings = new Map<string, Reading>();

  beforeAll(() => {
    const checks = read.map(({ file, dialect = "kohya", terms, rank = null, base }) => ({
      file: at(file),
      dialect,
      rank,
      terms: [
        ...(base === undefined ? [] : [{ file: at(base), ratio: 1, base: true }]),
        ...terms!.map(([name, ratio, prefix = null]) => ({ file: at(`${name}.safetensors`), ratio, prefix })),
      ],
    }));
    const { status, stdout, stderr } = spawnSync(PYTHON, [READER], {
      input: JSON.stringify(checks),
      encoding: "utf8",
    });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    for (const [i, reading] of (JSON.parse(stdout) as Reading[]).entries())
      readings.set(read[i]!.line, reading);
  });

  test.each(read)("reads every module of $line", ({ line, tolerance = FLOAT32 }) => {
    const { modules, missing, extra } = readings.get(line)!;
    expect({ missing, extra }).toEqual({ missing: [], extra: [] });
    expect(Object.keys(modules).length).toBeGreaterThanOrEqual(8);
    expect(Object.entries(modules).filter(([, error]) => !(error < tolerance))).toEqual([]);
  });
});
