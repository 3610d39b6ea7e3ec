import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { writeSampleRunLog } from "../../test/helpers/sample-run-log.js";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import type { EndEvent, StartEvent, StepEvent } from "../training/events.js";
import { RunPage } from "./run-page.js";

// Of these events only what they are and where counts.
const start = (outputDir: string) => ({ type: "start", outputDir, report: "html" }) as StartEvent;
const step = { type: "step", step: 1 } as StepEvent;
const end = { type: "end" } as EndEvent;

test("a short run gets its page at the end, and nothing before", async () => {
  const folder = await tempFolder();
  await writeSampleRunLog(folder, { steps: 10 });
  const page = new RunPage({ onProblem: (problem) => expect.unreachable(problem), now: () => 0 });
  page.event(start(folder));
  page.event(step);
  page.event(end);
  expect(await readdir(folder)).toEqual(["metrics.jsonl"]);
  expect(await page.finish()).toMatchObject({ path: join(folder, "cat.html") });
  expect(await readFile(join(folder, "cat.html"), "utf8")).not.toContain("Stopped at");
});

test("a long run is followed, once loading the charts is paid for", async () => {
  const folder = await tempFolder();
  await writeSampleRunLog(folder, { steps: 10, totalSteps: 20 });
  let nowMs = 0;
  const page = new RunPage({ onProblem: (problem) => expect.unreachable(problem), now: () => nowMs });
  page.event(start(folder));
  nowMs = 30_000;
  page.event(step);
  // Loading takes no time by this clock: the first page is due 20 seconds later.
  const followed = async () => {
    nowMs += 10_000;
    page.event(step);
    await new Promise((resolve) => setTimeout(resolve, 20));
    return (await readdir(folder)).includes("cat.html");
  };
  while (!(await followed()));
  expect(await readFile(join(folder, "cat.html"), "utf8")).toContain("Training: step 10 of 20");
  await page.finish();
});

test("--report none: nothing is read, drawn or written, however long the run is", async () => {
  const folder = await tempFolder();
  let nowMs = 0;
  // Without a log to read, loading the page would end in a problem.
  const page = new RunPage({ onProblem: (problem) => expect.unreachable(problem), now: () => nowMs });
  page.event({ ...start(folder), report: "none" });
  nowMs = 60_000;
  page.event(step);
  page.event(end);
  expect(await page.finish()).toBeNull();
  expect(await readdir(folder)).toEqual([]);
});

test("without a start there is no page", async () => {
  const page = new RunPage({ onProblem: (problem) => expect.unreachable(problem) });
  expect(await page.finish()).toBeNull();
});
