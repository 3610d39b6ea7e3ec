import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { DyloraError } from "../errors.js";
import { MetricsLog, readMetrics } from "./metrics-log.js";

let folder: string;
let path: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "dylora-metrics-"));
  path = join(folder, "metrics.jsonl");
});

afterEach(() => rm(folder, { recursive: true, force: true }));

/** Number of the run that most logs here belong to. */
const RUN = 42;
const head = `{"schemaVersion":1,"step":0,"run":${RUN}}\n`;
const line = (step: number) => `{"schemaVersion":1,"step":${step},"loss":${step / 10}}\n`;
const steps = async () => (await readMetrics(path)).map(({ step }) => step);

async function refusal(action: Promise<unknown>): Promise<DyloraError> {
  const error = await action.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (error instanceof DyloraError) return error;
  throw new Error(`expected a DyloraError, got ${error}`);
}

describe("MetricsLog", () => {
  it("writes one JSON object a line, there as soon as append returns", async () => {
    const log = await MetricsLog.create(path, RUN);
    log.append({ step: 1, loss: 0.25, learningRate: 1e-4, rankLosses: { 4: 0.3 } });
    expect(await readFile(path, "utf8")).toBe(
      `${head}{"schemaVersion":1,"step":1,"loss":0.25,"learningRate":0.0001,"rankLosses":{"4":0.3}}\n`,
    );
    log.append({ step: 2, loss: Number.NaN });
    log.sync();
    log.close();
    expect(await readMetrics(path)).toEqual([
      { schemaVersion: 1, step: 0, run: RUN },
      { schemaVersion: 1, step: 1, loss: 0.25, learningRate: 1e-4, rankLosses: { 4: 0.3 } },
      { schemaVersion: 1, step: 2, loss: null },
    ]);
  });

  it("takes back the steps after the one it resumes at, and goes on there", async () => {
    await writeFile(path, head + line(1) + line(2) + line(2) + line(3) + line(4));
    const log = await MetricsLog.resume(path, 2, RUN);
    expect(await steps()).toEqual([0, 1, 2, 2]);
    log.append({ step: 3, loss: 7 });
    log.close();
    expect(await readFile(path, "utf8")).toBe(
      `${head}${line(1)}${line(2)}${line(2)}{"schemaVersion":1,"step":3,"loss":7}\n`,
    );
    expect(await readdir(folder)).toEqual(["metrics.jsonl"]);
  });

  it("drops a torn last line, also one that is whole but for its line feed", async () => {
    for (const torn of ['{"schemaVersion":1,"st', line(3).trimEnd()]) {
      await writeFile(path, head + line(1) + line(2) + torn);
      expect(await steps()).toEqual([0, 1, 2]);
      const log = await MetricsLog.resume(path, 10, RUN);
      log.append({ step: 3 });
      log.close();
      expect(await steps()).toEqual([0, 1, 2, 3]);
    }
  });

  it("resumes a log that is missing or empty", async () => {
    for (const content of [null, ""]) {
      if (content !== null) await writeFile(path, content);
      const log = await MetricsLog.resume(path, 5, RUN);
      log.append({ step: 6 });
      log.close();
      expect(await steps()).toEqual([0, 6]);
      await rm(path);
    }
  });

  it("keeps the log of an earlier run when a new one starts", async () => {
    for (const step of [1, 2, 3]) {
      const log = await MetricsLog.create(path, RUN);
      log.append({ step });
      log.close();
    }
    expect((await readdir(folder)).sort()).toEqual(["metrics-1.jsonl", "metrics-2.jsonl", "metrics.jsonl"]);
    expect((await readMetrics(join(folder, "metrics-1.jsonl"))).at(-1)!.step).toBe(1);
    expect(await steps()).toEqual([0, 3]);
  });

  it("leaves the log of another run alone, and finds its own again", async () => {
    const other = 7;
    for (const [run, step] of [
      [RUN, 1],
      [other, 2],
    ] as const) {
      const log = await MetricsLog.create(path, run);
      log.append({ step });
      log.close();
    }
    // Resumed in turns, in one folder.
    for (const [run, step] of [
      [RUN, 3],
      [other, 4],
      [RUN, 5],
    ] as const) {
      const log = await MetricsLog.resume(path, step, run);
      log.append({ step });
      log.close();
    }
    expect(await steps()).toEqual([0, 1, 3, 5]);
    const [aside, ...more] = (await readdir(folder)).filter((name) => name !== "metrics.jsonl");
    expect(more).toEqual([]);
    expect((await readMetrics(join(folder, aside!))).map(({ step }) => step)).toEqual([0, 2, 4]);
  });

  it("starts a log of its own where the folder holds another run's", async () => {
    await writeFile(path, line(1) + line(2));
    const log = await MetricsLog.resume(path, 1, RUN);
    log.append({ step: 2 });
    log.close();
    expect(await steps()).toEqual([0, 2]);
    expect(await readFile(join(folder, "metrics-1.jsonl"), "utf8")).toBe(line(1) + line(2));
  });

  it("keeps every whole line, wherever a kill tore the file", async () => {
    const content = Buffer.from(head + line(1) + line(2) + line(3));
    for (let sizeBytes = 0; sizeBytes <= content.length; sizeBytes++) {
      const torn = content.subarray(0, sizeBytes);
      await writeFile(path, torn);
      const log = await MetricsLog.resume(path, 3, RUN);
      log.append({ step: 9 });
      log.close();
      const whole = torn.toString().split("\n").length - 1;
      expect(await steps()).toEqual([...[0, 1, 2, 3].slice(0, Math.max(whole, 1)), 9]);
    }
  });

  it.each([
    ["not json\n", "line 2: not JSON"],
    ['{"step":2}\n', "line 2: schemaVersion 1 expected, found undefined"],
    ['{"schemaVersion":2,"step":2}\n', "schemaVersion 1 expected, found 2"],
    ['{"schemaVersion":1,"step":"2"}\n', "line 2: step is no number"],
    ["null\n", "line 2: schemaVersion 1 expected"],
  ])("refuses a file that is no log (%j) and leaves it alone", async (bad, message) => {
    const content = head + bad + line(3);
    await writeFile(path, content);
    const error = await refusal(MetricsLog.resume(path, 1, RUN));
    expect(error.code).toBe("E_FORMAT");
    expect(error.message).toContain(message);
    expect(await readFile(path, "utf8")).toBe(content);
  });

  it("says where it cannot write or read", async () => {
    expect((await refusal(MetricsLog.create(join(folder, "missing", "metrics.jsonl"), RUN))).code).toBe(
      "E_WRITE",
    );
    expect((await refusal(readMetrics(path))).code).toBe("E_NOT_FOUND");
    const log = await MetricsLog.create(path, RUN);
    log.close();
    log.close();
    expect(() => log.append({ step: 1 })).toThrow(/the log is closed/);
  });
});
