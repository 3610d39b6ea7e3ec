import { copyFile, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { openAdapter } from "../src/adapter/index.js";
import type { BenchReport } from "../src/evaluation/bench-types.js";
import { benchPage, readEnergyMap, readRunLog, rebuildReport, trainingPage } from "../src/report/index.js";
import { embedFile } from "../src/report/pictures/embed-picture.js";
import type { PictureGrid } from "../src/report/pictures/picture-grid.js";
import { PictureStore, runPictureGrid } from "../src/report/pictures/run-pictures.js";
import { checkPage } from "./helpers/check-page.js";
import { sd15Modules, writeRandomAdapter } from "./helpers/random-adapter.js";
import { sampleBenchReport } from "./helpers/sample-bench-report.js";
import { writeSampleRunLog } from "./helpers/sample-run-log.js";
import { tempFolder } from "./helpers/temp-folder.js";

const HOSTILE = `</title><script>alert("1")</script> & 'quotes' <img src=x onerror=alert(1)>`;
const PICTURES = fileURLToPath(new URL("../fixtures/emoji/validation/", import.meta.url));

async function picturePaths(): Promise<string[]> {
  const names = await readdir(PICTURES, { recursive: true });
  return names.filter((name) => name.endsWith(".png")).map((name) => join(PICTURES, name));
}

async function pictures(): Promise<PictureGrid> {
  const paths = (await picturePaths()).slice(0, 5);
  return {
    id: "pictures",
    caption: HOSTILE,
    axis: "Rank",
    walk: "Walk through the ranks",
    columns: [0, 4, 8, 12, 16].map((rank) => ({ title: `rank ${rank}`, highlighted: rank === 8 })),
    rows: [
      { prompt: HOSTILE, details: "seed 1", pictures: await Promise.all(paths.map(embedFile)) },
      {
        prompt: "",
        details: "seed 2",
        pictures: [null, ...(await Promise.all(paths.slice(1).map(embedFile)))],
      },
    ],
  };
}

const withoutExtras = (report: BenchReport) =>
  benchPage({ report, energy: report.files.map(() => null), pictures: null });

describe("the page of a comparison", () => {
  test("shows the finding, every chart, the pictures and all numbers", async () => {
    const path = join(await tempFolder(), "a.safetensors");
    const metadata = { ss_network_module: "networks.dylora", ss_network_args: '{"unit": "4"}' };
    await writeRandomAdapter(path, {
      modules: sd15Modules(8).filter((_, index) => index % 9 === 0),
      metadata,
    });
    await using adapter = await openAdapter(path);
    const report = sampleBenchReport();
    const page = checkPage(
      benchPage({ report, energy: [await readEnergyMap(adapter)], pictures: await pictures() }),
    );
    expect(page.all("h1")[0]!.text).toBe("Rank 8 is enough");
    expect(page.all("h3").map(({ text }) => text)).toEqual([
      "Loss on held-out images, by rank",
      "Quality against file size",
      "Each rank against the full one, from fine detail to layout",
      "Where the adapter changes the model",
      "Energy that each rank holds",
    ]);
    expect(page.all("img")).toHaveLength(9);
    const results = page.all("table").find(({ text }) => text.includes("rank 8 (recommended)"))!;
    expect(results.text).toContain("475 kB");
  });

  test("each chart is there for wide and for narrow windows", () => {
    const page = checkPage(withoutExtras(sampleBenchReport()));
    const widths = page.all("svg").map(({ attributes }) => attributes.viewbox ?? attributes.viewBox);
    expect(widths.filter((box) => box?.startsWith("0 0 720 "))).toHaveLength(3);
    expect(widths.filter((box) => box?.startsWith("0 0 360 "))).toHaveLength(3);
  });

  test.each<[string, Parameters<typeof sampleBenchReport>[0], string]>([
    [
      "one rank",
      { files: [{ name: "a.safetensors", ranks: [8] }] },
      "This adapter of rank 8 lowers the loss",
    ],
    [
      "several files, ranks and strengths",
      {
        files: [
          { name: "wide.safetensors", ranks: [1, 2, 4, 8, 16, 32, 64, 128] },
          { name: "plain.safetensors", ranks: [8] },
          { name: "other/wide.safetensors", ranks: [4, 8] },
        ],
        multipliers: [0.5, 1],
      },
      "wide at rank 64 is enough",
    ],
    ["one image", { images: 1 }, "One image cannot tell the ranks apart"],
    [
      "ten files",
      { files: Array.from({ length: 10 }, (_, index) => ({ name: `f${index}.safetensors`, ranks: [4, 8] })) },
      "f0 at rank 4 is enough",
    ],
    ["names that are no names", { files: [{ name: HOSTILE, ranks: [4, 8, 16] }] }, "Rank 8 is enough"],
  ])("%s", (_, options, headline) => {
    const page = checkPage(withoutExtras(sampleBenchReport(options)));
    expect(page.all("h1")[0]!.text).toBe(headline);
    expect(page.all("script")).toHaveLength(1);
  });

  describe("of a mix of ranks", () => {
    const mix = { name: "mix.safetensors", ranks: [16], isMixed: true, sizeBytes: 489_000 };
    const plain = { name: "cat.safetensors", ranks: [4, 8, 12, 16] };

    test("never calls it by the one rank that it does not have", () => {
      const report = sampleBenchReport({ files: [mix, plain], multipliers: [0.5, 1] });
      const page = checkPage(
        withoutExtras({
          ...report,
          recommendation: { ...report.recommendation, file: 0, rank: 16, bestFile: 0, bestRank: 16 },
        }),
      );
      expect(page.all("h1")[0]!.text).toBe("mix is the one to take");
      expect(page.all("dd").map(({ text }) => text)).toContain("up to 16 a mix of ranks, mix.safetensors");
      expect(page.text).toContain("The dashed line is the best, the mix up to rank 16 of mix.safetensors.");
      expect(page.text).toContain("A diamond is a mix of ranks, at the largest of them.");
      expect(page.text).toContain("mix.safetensors, ranks to 16, keep 100 % with 489 kB.");
      expect(page.text).toContain("Best: the mix up to rank 16 at 1");
      expect(page.text).not.toMatch(/mix\.safetensors(,| at) rank 16/);
      const files = page.all("table").find(({ text }) => text.includes("LoRA, mixed ranks"))!;
      expect(files.text).toContain("to 16");
    });

    test("alone", () => {
      const page = checkPage(withoutExtras(sampleBenchReport({ files: [mix] })));
      expect(page.all("h1")[0]!.text).toBe("This mix of ranks up to 16 lowers the loss");
      expect(page.text).not.toMatch(/(?<!mix up to )rank 16/);
      const ticks = page.all("svg").flatMap((chart) => chart.all("text").map(({ text }) => text));
      expect(ticks).toContain("to 16");
      expect(ticks).not.toContain("16");
    });
  });

  test("nothing better than the base model is no recommendation", () => {
    const report = sampleBenchReport();
    const worse = { mean: 0.01, ciLow: 0.005, ciHigh: 0.015 };
    const files = report.files.map((file) => ({
      ...file,
      ranks: file.ranks.map((rank) => ({
        ...rank,
        multipliers: rank.multipliers.map((result) => ({ ...result, versusBase: worse, gainKept: null })),
      })),
    }));
    const page = checkPage(withoutExtras({ ...report, base: { ...report.base, meanLoss: 0.1 }, files }));
    expect(page.all("h1")[0]!.text).toBe("No rank is shown to be better than the base model");
    expect(page.all("h3").map(({ text }) => text)).not.toContain("Quality against file size");
  });

  test("is the same out of the JSON document, whose numbers are finite or null", async () => {
    for (const images of [12, 2]) {
      const report = sampleBenchReport({ images });
      const parsed = JSON.parse(JSON.stringify(report)) as BenchReport;
      expect(withoutExtras(parsed)).toBe(withoutExtras(report));
    }
  });
});

describe("the page of a run", () => {
  test("shows a long run that was resumed, validated and drew pictures", async () => {
    const folder = await tempFolder();
    const path = await writeSampleRunLog(folder, {
      steps: 900,
      resumedAt: [300, 600],
      validateEvery: 100,
      pictures: { every: 300, paths: await picturePaths() },
    });
    const log = await readRunLog(path);
    const page = checkPage(
      trainingPage({
        log,
        status: "finished",
        refreshSeconds: null,
        pictures: await runPictureGrid(log.pictures, new PictureStore()),
        date: "2026-11-23T01:02:03Z",
      }),
    );
    expect(page.all("h1")[0]!.text).toMatch(/^Loss fell from 0\.\d{4} to 0\.\d{4}$/);
    expect(page.all("h3").map(({ text }) => text)).toEqual([
      "Loss",
      "Loss on held-out images",
      "Loss of each rank",
      "Learning rate",
      "Gradient norm",
      "Time of a step",
      "Memory",
    ]);
    // Two prompts at three steps.
    expect(page.all("img")).toHaveLength(6);
    expect(page.all("dt").map(({ text }) => text)).toContain("Optimizer");
    const starts = page.all("table").find(({ text }) => text.includes("The run was stopped and went on."))!;
    expect(starts.all("tbody")[0]!.all("tr")).toHaveLength(3);
  });

  test.each([
    ["one step", { steps: 1, totalSteps: 50 }],
    ["no step yet", { steps: 0, totalSteps: 50 }],
    ["a LoRA of one rank", { steps: 12, ranks: [8] }],
    [
      "64 ranks",
      { steps: 300, ranks: Array.from({ length: 64 }, (_, index) => index + 1), validateEvery: 100 },
    ],
  ])("%s", async (_, options) => {
    const log = await readRunLog(await writeSampleRunLog(await tempFolder(), options));
    for (const status of ["running", "stopped"] as const) {
      const refreshSeconds = status === "running" ? 20 : null;
      checkPage(trainingPage({ log, status, refreshSeconds, pictures: null, date: "2026-11-23T01:02:03Z" }));
    }
  });

  test("pictures are found when the folder of the run was moved, and one that is gone leaves a gap", async () => {
    const [paths, folder] = [await picturePaths(), await tempFolder({ "sample/": "" })];
    await copyFile(paths[0]!, join(folder, "sample", "one.png"));
    const log = await readRunLog(
      await writeSampleRunLog(folder, {
        steps: 20,
        pictures: { every: 10, paths: ["/elsewhere/sample/one.png", "/elsewhere/sample/gone.png"] },
      }),
    );
    const grid = (await runPictureGrid(log.pictures, new PictureStore()))!;
    expect(grid.columns.map(({ title }) => title)).toEqual(["step 10", "step 20"]);
    expect(grid.rows.map((row) => row.pictures.map((picture) => picture?.width ?? null))).toEqual([
      [expect.any(Number), expect.any(Number)],
      [null, null],
    ]);
  });
});

describe("rebuildReport", () => {
  test("writes the page of a run beside its log, and of a comparison beside its document", async () => {
    const folder = await tempFolder();
    await writeSampleRunLog(folder, { steps: 20 });
    const run = await rebuildReport(folder, { out: null });
    expect(run).toMatchObject({ kind: "training", path: join(folder, "cat.html") });
    checkPage(await readFile(run.path, "utf8"));

    const document = join(folder, "ranks.json");
    await writeFile(document, JSON.stringify({ schemaVersion: 1, ...sampleBenchReport() }));
    const bench = await rebuildReport(document, { out: null });
    expect(bench).toMatchObject({ kind: "bench", path: join(folder, "ranks.html") });
    const page = await readFile(bench.path, "utf8");
    checkPage(page);
    expect(bench.sizeBytes).toBe(Buffer.byteLength(page));
  });

  test.each([
    ["{", "not JSON"],
    ["[]", "no rank comparison"],
    ["null", "no rank comparison"],
    ['{"files": []}', "no settings, extent, bands"],
  ])("%s is no comparison", async (text, message) => {
    const source = join(await tempFolder({ "x.json": text }), "x.json");
    await expect(rebuildReport(source, { out: null })).rejects.toMatchObject({
      code: "E_FORMAT",
      message: expect.stringContaining(message),
    });
  });

  test("says what is missing", async () => {
    const folder = await tempFolder();
    await expect(rebuildReport(join(folder, "no"), { out: null })).rejects.toMatchObject({
      code: "E_NOT_FOUND",
    });
    await expect(rebuildReport(folder, { out: null })).rejects.toMatchObject({
      code: "E_NOT_FOUND",
      message: expect.stringContaining("metrics.jsonl"),
    });
  });
});
