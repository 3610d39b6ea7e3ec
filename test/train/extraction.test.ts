/** The identity the project rests on: the file of rank b is the model that was trained at rank b. */
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { openAdapter } from "../../src/adapter/index.js";
import type { BenchReport } from "../../src/evaluation/bench-types.js";
import {
  type Dtype,
  decodeToFloat32,
  encodeFromFloat32,
  writeSafetensors,
} from "../../src/safetensors/index.js";
import { extract, planExtract, type RankSelection } from "../../src/surgery/index.js";
import type { ValidationEvent } from "../../src/training/events.js";
import { tempFolder } from "../helpers/temp-folder.js";
import {
  benchTiny,
  eventsOf,
  metadataOf,
  pictureFolder,
  rawTensors,
  SLOW_MS,
  TINY_OPTIONS,
  tinyConfig,
  trainTiny,
} from "../helpers/tiny-run.js";

const RANKS = [2, 4, 6];

let folder: string;
let heldOut: string;
/** Text encoder included, and 3x3 convolutions of a lower rank than the rest. */
let parent: string;
let validation: ValidationEvent;
/** Rank -> path. */
let copies: Map<number, string>;
let report: BenchReport;

async function extractAll(path: string, outDir: string, selection: RankSelection = { all: true }) {
  await using adapter = await openAdapter(path);
  const { outputs } = await extract(planExtract(adapter, selection, { outDir }));
  return new Map(outputs.map(({ rank, path: copy }) => [rank, copy]));
}

/** Bench with the noises of the trainer's validation: its seed, and four draws per picture. */
const benchHeldOut = (files: readonly string[]) =>
  benchTiny(files, { data: heldOut, seed: TINY_OPTIONS.seed });

const lossOf = ({ files }: BenchReport, path: string, rank: number) =>
  files.find((file) => file.path === path)!.ranks.find((result) => result.rank === rank)!.multipliers[0]!
    .meanLoss;

/** Relative difference. */
const difference = (a: number, b: number) => Math.abs(a - b) / Math.abs(b);

beforeAll(async () => {
  folder = await tempFolder();
  heldOut = await pictureFolder(1, "1_emoji", 40);
  const run = await trainTiny(
    tinyConfig({
      trainDataDir: await pictureFolder(3),
      validationDir: heldOut,
      validateEveryNSteps: 3,
      outputDir: folder,
      networkDim: 6,
      networkAlpha: 3,
      networkArgs: ["unit=2", "conv_dim=4", "conv_alpha=2"],
      networkTrainUnetOnly: false,
      learningRate: 3e-2,
    }),
  );
  parent = run.result.weightsPath!;
  validation = eventsOf(run.events, "validation").at(-1)!;
  copies = await extractAll(parent, folder);
  report = await benchHeldOut([parent, ...copies.values()]);
}, SLOW_MS);

test("every rank that was trained is extracted, the maximum included", () => {
  expect([...copies.keys()]).toEqual(RANKS);
  expect(report.files[0]!.ranks.map(({ rank }) => rank)).toEqual(RANKS);
});

test.each(RANKS)("at rank %i the copy has the loss of the DyLoRA at that rank", (rank) => {
  const own = lossOf(report, parent, rank);
  expect(difference(lossOf(report, copies.get(rank)!, rank), own)).toBeLessThan(1e-6);
});

test.each(RANKS)("at rank %i the copy has the loss that the trainer measured at that rank", (rank) => {
  const trained = validation.byRank.find((result) => result.rank === rank)!.loss;
  expect(difference(lossOf(report, copies.get(rank)!, rank), trained)).toBeLessThan(1e-6);
});

test("the ranks are different models, and none is the base model", () => {
  const losses = [report.base.meanLoss, ...RANKS.map((rank) => lossOf(report, parent, rank))];
  for (const [index, loss] of losses.entries()) {
    for (const other of losses.slice(index + 1)) expect(difference(loss, other)).toBeGreaterThan(1e-4);
  }
});

test("every tensor of a copy is the prefix of its parent's, byte for byte", async () => {
  const whole = await rawTensors(parent);
  for (const [rank, path] of copies) {
    const part = await rawTensors(path);
    expect([...part.keys()]).toEqual([...whole.keys()]);
    for (const [name, { shape, bytes, dtype }] of part) {
      const from = whole.get(name)!;
      expect(dtype).toBe(from.dtype);
      expect(Buffer.from(bytes).equals(prefix(from, shape)), `${name} at rank ${rank}`).toBe(true);
    }
  }
});

/** The first rows, and of every row the first columns, of a tensor. */
function prefix(
  { shape, bytes }: { shape: readonly number[]; bytes: Uint8Array },
  wanted: readonly number[],
): Buffer {
  if (shape.length === 0) return Buffer.from(bytes);
  expect(wanted.slice(2)).toEqual(shape.slice(2));
  const [rows, columns] = [shape[0]!, shape[1]!];
  const columnBytes = bytes.length / rows / columns;
  const parts: Uint8Array[] = [];
  for (let row = 0; row < wanted[0]!; row++) {
    const begin = row * columns * columnBytes;
    parts.push(bytes.subarray(begin, begin + wanted[1]! * columnBytes));
  }
  return Buffer.concat(parts);
}

test("a file without metadata extracts too, to the same tensors", async () => {
  const bare = join(await tempFolder(), "bare.safetensors");
  await rewrite(parent, bare, null);
  const selection = { ranks: RANKS };
  const bareCopies = await extractAll(bare, await tempFolder(), selection);
  for (const rank of RANKS) {
    const [ours, theirs] = await Promise.all(
      [bareCopies, copies].map((paths) => rawTensors(paths.get(rank)!)),
    );
    expect([...ours!.keys()]).toEqual([...theirs!.keys()]);
    for (const [name, { shape, bytes }] of ours!) {
      expect(shape).toEqual(theirs!.get(name)!.shape);
      expect(Buffer.from(bytes).equals(theirs!.get(name)!.bytes), name).toBe(true);
    }
  }
});

test(
  "a file of another trainer keeps the strength of that trainer's rule, in float16",
  async () => {
    const foreign = join(await tempFolder(), "foreign.safetensors");
    const metadata = {
      ...(await metadataOf(parent)),
      ss_network_args: JSON.stringify({ unit: "2", conv_dim: "4", conv_alpha: "2" }),
    };
    await rewrite(parent, foreign, metadata, "F16");
    const foreignCopies = await extractAll(foreign, folder);
    const measured = await benchHeldOut([foreign, ...foreignCopies.values()]);
    for (const rank of RANKS) {
      const own = lossOf(measured, foreign, rank);
      expect(difference(lossOf(measured, foreignCopies.get(rank)!, rank), own)).toBeLessThan(1e-6);
    }
    // sd-scripts' rule is another one than ours: below full rank the same factors have another strength.
    expect(difference(lossOf(measured, foreign, 2), lossOf(report, parent, 2))).toBeGreaterThan(1e-4);
  },
  SLOW_MS,
);

async function rewrite(
  from: string,
  to: string,
  metadata: Readonly<Record<string, string>> | null,
  dtype?: "F16",
): Promise<void> {
  const tensors = await rawTensors(from);
  await writeSafetensors(
    to,
    [...tensors].map(([name, tensor]) => ({
      name,
      dtype: (dtype ?? tensor.dtype) as Dtype,
      shape: tensor.shape,
      data: () =>
        dtype === undefined
          ? tensor.bytes
          : encodeFromFloat32(decodeToFloat32(tensor.bytes, tensor.dtype as Dtype), dtype),
    })),
    { metadata },
  );
}
