/**
 * All mutated files: `npm run fuzz`, or `npm run fuzz -- --headers 1000 --files 100 --first 500000`.
 *
 * Child processes run the cases, so that a crash or a hang of one is seen, named and outlived. Prints one JSON document with
 * the figures; exits 1 if anything went wrong. A failing case is run again with `--first NUMBER --headers 1 --files 0`.
 */
import { fork } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Mutation } from "./mutate.js";
import { type FuzzRange, type FuzzReport, runCases } from "./run-cases.js";

/** Cases of one child: few enough that what one of them leaves in memory does not matter. */
const RANGE_CASES = 1000;

/** Without a new case for this long, a child hangs. */
const HANG_MS = 60_000;

type Message = { readonly number: number } | { readonly report: FuzzReport };

if (process.send === undefined) await runAll();
else process.once("message", (range: FuzzRange & { folder: string }) => void runRange(range));

async function runRange({ folder, ...range }: FuzzRange & { folder: string }): Promise<void> {
  const report = await runCases(folder, range, (number) => process.send!({ number } satisfies Message));
  process.send!({ report } satisfies Message, () => process.disconnect());
}

async function runAll(): Promise<void> {
  const { values } = parseArgs({
    options: {
      headers: { type: "string", default: "100000" },
      files: { type: "string", default: "10000" },
      first: { type: "string", default: "0" },
      jobs: { type: "string", default: String(availableParallelism()) },
    },
  });
  const startMs = performance.now();
  const ranges: FuzzRange[] = (["header", "file"] as const).flatMap((kind) =>
    rangesOf(kind, Number(values.first), Number(kind === "header" ? values.headers : values.files)),
  );
  const folder = await mkdtemp(join(tmpdir(), "dylora-fuzz-"));
  const reports: { readonly kind: Mutation; readonly report: FuzzReport }[] = [];
  const next = ranges.values();
  const work = async () => {
    for (const range of next) {
      reports.push({
        kind: range.kind,
        report: await runChild(range, join(folder, `${range.kind}-${range.first}`)),
      });
      process.stderr.write(`\r${reports.length} of ${ranges.length} thousands`);
    }
  };
  await Promise.all(Array.from({ length: Number(values.jobs) }, work));
  process.stderr.write("\n");
  await rm(folder, { recursive: true, force: true });
  const failures = reports.flatMap(({ report }) => report.failures);
  const figures = {
    headers: summary(reports, "header"),
    files: summary(reports, "file"),
    slowestMs: Math.max(...reports.map(({ report }) => report.slowestMs)),
    elapsedMs: performance.now() - startMs,
    failures,
  };
  process.stdout.write(`${JSON.stringify(figures, null, 2)}\n`);
  process.exitCode = failures.length === 0 ? 0 : 1;
}

function rangesOf(kind: Mutation, first: number, count: number): FuzzRange[] {
  return Array.from({ length: Math.ceil(count / RANGE_CASES) }, (_, i) => ({
    kind,
    first: first + i * RANGE_CASES,
    count: Math.min(RANGE_CASES, count - i * RANGE_CASES),
  }));
}

/** A child that dies or hangs counts as a failure of the case that it was at; its other cases are lost with it. */
function runChild(range: FuzzRange, folder: string): Promise<FuzzReport> {
  return new Promise((resolve) => {
    const child = fork(fileURLToPath(import.meta.url), { execArgv: process.execArgv });
    let report: FuzzReport | null = null;
    let number = range.first;
    let watchdog: NodeJS.Timeout;
    const watch = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => child.kill("SIGKILL"), HANG_MS);
    };
    watch();
    child.on("message", (message: Message) => {
      watch();
      if ("report" in message) report = message.report;
      else number = message.number;
    });
    child.on("exit", (code, signal) => {
      clearTimeout(watchdog);
      const problem = `the process ended with ${signal ?? code}: a crash, or a hang of more than ${HANG_MS / 1000} s`;
      const crash = { kind: range.kind, number, problem };
      resolve(report ?? { cases: number - range.first, outcomes: {}, slowestMs: 0, failures: [crash] });
    });
    child.send({ ...range, folder });
  });
}

function summary(
  reports: readonly { readonly kind: Mutation; readonly report: FuzzReport }[],
  kind: Mutation,
) {
  const outcomes: Record<string, Record<string, number>> = {};
  let cases = 0;
  for (const { report } of reports.filter((entry) => entry.kind === kind)) {
    cases += report.cases;
    for (const [operation, counts] of Object.entries(report.outcomes)) {
      const sums = outcomes[operation] ?? {};
      outcomes[operation] = sums;
      for (const [outcome, count] of Object.entries(counts)) sums[outcome] = (sums[outcome] ?? 0) + count;
    }
  }
  return { cases, outcomes };
}
