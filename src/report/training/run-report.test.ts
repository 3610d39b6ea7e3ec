import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { writeSampleRunLog } from "../../../test/helpers/sample-run-log.js";
import { tempFolder } from "../../../test/helpers/temp-folder.js";
import type { EndEvent, StartEvent, StepEvent } from "../../training/events.js";
import { RunReport } from "./run-report.js";

/** Of these events only what they are and where counts. */
const start = (outputDir: string) => ({ type: "start", outputDir, report: "html" }) as StartEvent;
const step = { type: "step", step: 1 } as StepEvent;
const end = { type: "end" } as EndEvent;

function follow(now: () => number) {
  const problems: unknown[] = [];
  return { problems, report: new RunReport({ now, onProblem: (problem) => problems.push(problem) }) };
}

const pageOf = (folder: string) => readFile(join(folder, "cat.html"), "utf8");
/** Until the page that is being written in the background lies there. */
async function settled(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 10));
}

describe("RunReport", () => {
  test("writes no page in the first seconds, then at intervals that grow with their cost, and one at the end", async () => {
    const folder = await tempFolder();
    await writeSampleRunLog(folder, { steps: 10, totalSteps: 20 });
    let nowMs = 0;
    const { report, problems } = follow(() => {
      // Every look at the clock takes half a second: so long takes the writing of a page.
      nowMs += 500;
      return nowMs;
    });
    // It looks three times: whether a page is due, before its writing and after it.
    const written = (dueAtMs: number) => settled(async () => nowMs >= dueAtMs + 1500);
    report.event(start(folder));
    report.event(step);
    expect(await readdir(folder)).toEqual(["metrics.jsonl"]);

    nowMs = 30_000;
    report.event(step);
    await written(30_000);
    const running = await pageOf(folder);
    expect(running).toContain("Training: step 10 of 20");
    expect(running).toContain('data-refresh-seconds="20"');
    expect(running).toMatch(/<noscript><meta http-equiv="refresh" content="20"><\/noscript>/);

    // Half a second of writing is paid for by a hundred seconds without.
    await writeSampleRunLog(folder, { steps: 15, totalSteps: 20 });
    nowMs = 100_000;
    report.event(step);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await pageOf(folder)).toBe(running);
    nowMs = 150_000;
    report.event(step);
    await written(150_000);
    expect(await pageOf(folder)).toContain('data-refresh-seconds="100"');

    await writeSampleRunLog(folder, { steps: 20 });
    report.event(end);
    expect(await report.finish()).toEqual({
      path: join(folder, "cat.html"),
      sizeBytes: Buffer.byteLength(await pageOf(folder)),
    });
    const finished = await pageOf(folder);
    expect(finished).not.toMatch(/http-equiv="refresh"|<body data-refresh/);
    expect(finished).not.toContain("Training: step");
    expect(problems).toEqual([]);
  });

  test("a run that ended early says where, and shows the parts before it was resumed", async () => {
    const folder = await tempFolder();
    await writeSampleRunLog(folder, { steps: 30, totalSteps: 40, resumedAt: [12] });
    const { report } = follow(() => 0);
    report.event(start(folder));
    await report.finish();
    const page = await pageOf(folder);
    expect(page).toContain("Stopped at step 30 of 40");
    expect(page).toContain("The run was stopped and went on.");
  });

  test("without a start there is no page, and with --report none neither", async () => {
    const { report } = follow(() => 0);
    expect(await report.finish()).toBeNull();

    const folder = await tempFolder();
    await writeSampleRunLog(folder, { steps: 3 });
    const off = follow(() => 0);
    off.report.event({ ...start(folder), report: "none" });
    expect(await off.report.finish()).toBeNull();
    expect(await readdir(folder)).toEqual(["metrics.jsonl"]);
  });

  test("what cannot be written is told once, and the run goes on", async () => {
    const folder = await tempFolder({ "cat.html": "notes of somebody" });
    await writeSampleRunLog(folder, { steps: 3 });
    let nowMs = 0;
    const { report, problems } = follow(() => {
      nowMs += 60_000;
      return nowMs;
    });
    report.event(start(folder));
    report.event(step);
    await settled(async () => problems.length > 0);
    report.event(step);
    expect(await report.finish()).toBeNull();
    expect(problems).toMatchObject([{ code: "E_EXISTS" }]);
    expect(await pageOf(folder)).toBe("notes of somebody");
  });
});
