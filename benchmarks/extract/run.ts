/**
 * Extracts every lower rank of a full-size DyLoRA in one pass, and copies the same files with `cp`.
 *
 *   npm run -s benchmark:extract -- [--rank 128] [--unit 4] [--rounds 3] [--folder DIR] [--json]
 *
 * Both write to the same folder, one after the other in every round, and both are followed by `sync`; times are of whole
 * processes, their start included. Also times `dylora inspect` of the parent (from `dist`: build first). Results are appended to
 * `benchmarks/results/extract.jsonl`.
 */

import { execFileSync, fork } from "node:child_process";
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

interface Round {
  readonly extractSeconds: number;
  readonly librarySeconds: number;
  readonly cpuSeconds: number;
  readonly peakBytes: number;
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
        { parentPath, ranks, outDir: join(folder, "ranks") },
        join(folder, "copy"),
      );
      writtenBytes = result.writtenBytes;
      rounds.push(result.round);
      const { extractSeconds, cpSeconds } = result.round;
      console.error(
        `round ${round + 1}: extract ${extractSeconds.toFixed(2)} s, cp ${cpSeconds.toFixed(2)} s`,
      );
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }

  const extractSeconds = median(rounds.map((round) => round.extractSeconds));
  const cpSeconds = median(rounds.map((round) => round.cpSeconds));
  const result = {
    ...here,
    parent: { rank, unit, modules: SD15_TARGETS.length, sizeBytes: (await stat(parentPath)).size },
    files: ranks.length,
    writtenBytes,
    medianExtractSeconds: extractSeconds,
    medianLibrarySeconds: median(rounds.map((round) => round.librarySeconds)),
    medianCpuSeconds: median(rounds.map((round) => round.cpuSeconds)),
    medianCpSeconds: cpSeconds,
    timesCp: extractSeconds / cpSeconds,
    peakBytes: Math.max(...rounds.map((round) => round.peakBytes)),
    rounds,
    inspect: timeInspect(parentPath),
  };
  await appendResult("extract", { schemaVersion: 1, ...result });
  const { stdout } = processTerminal();
  if (values.json) {
    writeDocument(stdout, result);
    return;
  }
  const { inspect } = result;
  stdout.write(
    renderFields([
      ["written", `${result.files} files, ${formatBytes(writtenBytes)}`],
      ["extract + sync", `${extractSeconds.toFixed(2)} s (median of ${rounds.length})`],
      ["of which CPU", `${result.medianCpuSeconds.toFixed(2)} s on ${here.machine.cores} cores`],
      ["cp + sync", `${cpSeconds.toFixed(2)} s`],
      ["times cp", result.timesCp.toFixed(2)],
      ["peak memory", formatBytes(result.peakBytes)],
      [
        "inspect",
        "problem" in inspect
          ? inspect.problem
          : `${inspect.medianMs.toFixed(0)} ms, of which ${inspect.nodeStartMs.toFixed(0)} ms are Node's own start`,
      ],
    ]),
  );
}

async function playRound(job: ExtractJob, copyDir: string): Promise<{ round: Round; writtenBytes: number }> {
  const syncDisk = () => execFileSync("sync");
  await mkdir(job.outDir, { recursive: true });
  await mkdir(copyDir, { recursive: true });
  syncDisk();
  let began = performance.now();
  const figures = await runExtract(job);
  syncDisk();
  const extractSeconds = (performance.now() - began) / 1000;

  began = performance.now();
  execFileSync("cp", [...figures.paths, copyDir]);
  syncDisk();
  const cpSeconds = (performance.now() - began) / 1000;

  await rm(job.outDir, { recursive: true });
  await rm(copyDir, { recursive: true });
  const { librarySeconds, cpuSeconds, peakBytes, writtenBytes } = figures;
  return { round: { extractSeconds, librarySeconds, cpuSeconds, peakBytes, cpSeconds }, writtenBytes };
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
