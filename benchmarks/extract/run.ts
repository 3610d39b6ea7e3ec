/**
 * Extracts every lower rank of a full-size DyLoRA in one pass, and copies the same files with `cp`.
 *
 *   npm run -s benchmark:extract -- [--rank 128] [--unit 4] [--rounds 3] [--folder DIR] [--json]
 *
 * All write to the same folder, one after the other in every round, and all are followed by `sync`; times are of whole
 * processes, their start included. Extraction is timed with `sshs_model_hash` (SHA-256 of all data, which CPUs without SHA
 * instructions compute more slowly than disks write) and with `--skip-hashes`. Also times `dylora inspect` of the parent (from `dist`: build first). Results are appended to
 * `benchmarks/results/extract.jsonl`.
 */

import { execFileSync, fork } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { formatBytes } from "../../src/cli/format.js";
import { writeDocument } from "../../src/cli/json.js";
import { renderFields } from "../../src/cli/table.js";
import { processTerminal } from "../../src/cli/terminal.js";
import { multiplesOfUnit } from "../../src/dylora/index.js";
import { DyloraError, internalError } from "../../src/errors.js";
import { appendResult, besideModule, cacheFolder, fail, median, setting, wholeNumber } from "../setting.js";
import type { ExtractFigures, ExtractJob } from "./extract-once.js";
import { timeInspect } from "./inspect-time.js";
import { fullSizeAdapter, SD15_TARGETS } from "./random-adapter.js";

interface Extraction {
  readonly extractSeconds: number;
  readonly librarySeconds: number;
  readonly cpuSeconds: number;
  readonly peakBytes: number;
}

interface Round {
  readonly hashed: Extraction;
  readonly unhashed: Extraction;
  readonly cpSeconds: number;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rank: { type: "string", default: "128" },
      unit: { type: "string", default: "4" },
      rounds: { type: "string", default: "3" },
      folder: { type: "string", default: cacheFolder() },
      json: { type: "boolean", default: false },
    },
  });
  if (process.platform === "win32") {
    throw new DyloraError(
      "E_USAGE",
      "benchmark:extract compares with cp and sync, which Windows does not have",
    );
  }
  const [rank, unit] = [wholeNumber("rank", values.rank, 2), wholeNumber("unit", values.unit, 1)];
  const ranks = multiplesOfUnit(rank, unit).slice(0, -1);
  const parentPath = await fullSizeAdapter(rank, unit);
  const here = setting();

  await mkdir(values.folder, { recursive: true });
  const folder = await mkdtemp(join(values.folder, "extract-"));
  const rounds: Round[] = [];
  let writtenBytes = 0;
  try {
    for (let round = 0; round < wholeNumber("rounds", values.rounds, 1); round++) {
      const result = await playRound(
        { parentPath, ranks, outDir: join(folder, "ranks"), skipsHashes: false },
        join(folder, "copy"),
      );
      writtenBytes = result.writtenBytes;
      rounds.push(result.round);
      const { hashed, unhashed, cpSeconds } = result.round;
      console.error(
        `round ${round + 1}: extract ${hashed.extractSeconds.toFixed(2)} s, without hashes ` +
          `${unhashed.extractSeconds.toFixed(2)} s, cp ${cpSeconds.toFixed(2)} s`,
      );
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }

  const cpSeconds = median(rounds.map((round) => round.cpSeconds));
  const result = {
    ...here,
    parent: { rank, unit, modules: SD15_TARGETS.length, sizeBytes: (await stat(parentPath)).size },
    files: ranks.length,
    writtenBytes,
    hashed: summary(
      rounds.map(({ hashed }) => hashed),
      cpSeconds,
    ),
    unhashed: summary(
      rounds.map(({ unhashed }) => unhashed),
      cpSeconds,
    ),
    medianCpSeconds: cpSeconds,
    sha256BytesPerSecond: sha256Speed(),
    rounds,
    inspect: timeInspect(parentPath),
  };
  await appendResult("extract", { schemaVersion: 1, ...result });
  const { stdout } = processTerminal();
  if (values.json) {
    writeDocument(stdout, result);
    return;
  }
  const { inspect, hashed, unhashed } = result;
  const extractText = ({ medianExtractSeconds, medianCpuSeconds, timesCp, peakBytes }: typeof hashed) =>
    `${medianExtractSeconds.toFixed(2)} s: ${timesCp.toFixed(2)} times cp; ${medianCpuSeconds.toFixed(2)} s of CPU, ` +
    `${formatBytes(peakBytes)} of memory`;
  stdout.write(
    renderFields([
      ["written", `${result.files} files, ${formatBytes(writtenBytes)}, in ${rounds.length} rounds`],
      ["cp + sync", `${cpSeconds.toFixed(2)} s`],
      ["extract + sync", extractText(hashed)],
      ["without hashes", extractText(unhashed)],
      [
        "sha-256",
        `${formatBytes(result.sha256BytesPerSecond)} a second and core, ${here.machine.cores} cores`,
      ],
      [
        "inspect",
        "problem" in inspect
          ? inspect.problem
          : `${inspect.medianMs.toFixed(0)} ms, of which ${inspect.nodeStartMs.toFixed(0)} ms are Node's own start`,
      ],
    ]),
  );
}

function summary(extractions: readonly Extraction[], cpSeconds: number) {
  const medianExtractSeconds = median(extractions.map(({ extractSeconds }) => extractSeconds));
  return {
    medianExtractSeconds,
    medianLibrarySeconds: median(extractions.map(({ librarySeconds }) => librarySeconds)),
    medianCpuSeconds: median(extractions.map(({ cpuSeconds }) => cpuSeconds)),
    timesCp: medianExtractSeconds / cpSeconds,
    peakBytes: Math.max(...extractions.map(({ peakBytes }) => peakBytes)),
  };
}

/** Of this process's one thread, bytes per second. */
function sha256Speed(): number {
  const bytes = new Uint8Array(64e6);
  const began = performance.now();
  createHash("sha256").update(bytes).digest();
  return (1000 * bytes.length) / (performance.now() - began);
}

async function playRound(job: ExtractJob, copyDir: string): Promise<{ round: Round; writtenBytes: number }> {
  const hashed = await timeExtract(job);
  await rm(job.outDir, { recursive: true });
  const unhashed = await timeExtract({ ...job, skipsHashes: true });

  await mkdir(copyDir, { recursive: true });
  syncDisk();
  const began = performance.now();
  execFileSync("cp", [...unhashed.paths, copyDir]);
  syncDisk();
  const cpSeconds = (performance.now() - began) / 1000;

  await rm(job.outDir, { recursive: true });
  await rm(copyDir, { recursive: true });
  const round = { hashed: hashed.extraction, unhashed: unhashed.extraction, cpSeconds };
  return { round, writtenBytes: hashed.writtenBytes };
}

async function timeExtract(job: ExtractJob) {
  await mkdir(job.outDir, { recursive: true });
  syncDisk();
  const began = performance.now();
  const { paths, writtenBytes, librarySeconds, cpuSeconds, peakBytes } = await runExtract(job);
  syncDisk();
  const extractSeconds = (performance.now() - began) / 1000;
  const extraction: Extraction = { extractSeconds, librarySeconds, cpuSeconds, peakBytes };
  return { extraction, paths, writtenBytes };
}

function syncDisk(): void {
  execFileSync("sync");
}

function runExtract(job: ExtractJob): Promise<ExtractFigures> {
  return new Promise((resolve, reject) => {
    let figures: ExtractFigures | null = null;
    const child = fork(besideModule(import.meta.url, "extract-once"), [JSON.stringify(job)]);
    child.on("message", (message: ExtractFigures) => {
      figures = message;
    });
    child.on("error", reject);
    child.on("close", (code) => {
      if (figures === null) reject(internalError(`the extraction ended with exit status ${code}`));
      else resolve(figures);
    });
  });
}

await main().catch(fail);
