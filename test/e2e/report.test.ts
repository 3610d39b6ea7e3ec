import { readdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openAdapter } from "../../src/adapter/index.js";
import { benchPage, readEnergyMap, readRunLog, trainingPage } from "../../src/report/index.js";
import { embedFile } from "../../src/report/pictures/embed-picture.js";
import type { PictureGrid } from "../../src/report/pictures/picture-grid.js";
import { PictureStore, runPictureGrid } from "../../src/report/pictures/run-pictures.js";
import { checkPage } from "../helpers/check-page.js";
import { CHROMIUM_NOTE, CHROMIUM_PATH } from "../helpers/chromium.js";
import { everyKindOfModule, writeRandomAdapter } from "../helpers/random-adapter.js";
import { runProgram } from "../helpers/run-program.js";
import { sampleBenchReport } from "../helpers/sample-bench-report.js";
import { writeSampleRunLog } from "../helpers/sample-run-log.js";
import { tempFolder } from "../helpers/temp-folder.js";
import { pictureFolder, SLOW_MS, TINY_MODEL } from "../helpers/tiny-run.js";

const FIXTURES = fileURLToPath(new URL("../../fixtures/emoji/validation/", import.meta.url));

async function fixturePaths(): Promise<string[]> {
  const names = await readdir(FIXTURES, { recursive: true });
  return names.filter((name) => name.endsWith(".png")).map((name) => join(FIXTURES, name));
}

test(
  "train writes the page of its run, bench --report that of its comparison, report either of them again",
  async () => {
    const [cwd, data] = [await tempFolder(), await pictureFolder(4, "1_emoji")];
    const common = ["--pretrained_model_name_or_path", TINY_MODEL, "--resolution", "16", "--device", "cpu"];
    const fast = ["--execution_mode", "lean", "--threads", "1"];
    const trained = await runProgram(
      [
        ...["train", ...common, ...fast, "--train_data_dir", data, "--network_train_unet_only"],
        ...[
          "--network_dim",
          "4",
          "--network_args",
          "unit=2",
          "--max_train_steps",
          "2",
          "--output_name",
          "cat",
        ],
      ],
      { cwd },
    );
    expect(trained).toMatchObject({ status: 0 });
    expect(trained.stderr).toMatch(/^report {2}output\/cat\.html \([\d.]+ kB\)$/m);
    const run = checkPage(await readFile(join(cwd, "output", "cat.html"), "utf8"));
    expect(run.all("h1")[0]!.text).toMatch(/^Loss /);
    expect(run.all("dd").map(({ text }) => text)).toContain("output, name cat");

    const benched = await runProgram(
      [
        ...["bench", "output/cat.safetensors", ...common, ...fast, "--data", data, "--json"],
        ...["--report", "ranks.html", "--report_prompts", "a <cat>", "--report_steps", "1"],
      ],
      { cwd },
    );
    expect(benched).toMatchObject({ status: 0 });
    const page = checkPage(await readFile(join(cwd, "ranks.html"), "utf8"));
    expect(page.all("img").map(({ attributes }) => attributes.alt)).toEqual([
      "base model: a <cat>",
      "rank 2: a <cat>",
      "rank 4: a <cat>",
    ]);
    expect(page.all("h3").map(({ text }) => text)).toContain("Where the adapter changes the model");

    await writeFile(join(cwd, "ranks.json"), benched.stdout);
    const again = await runProgram(["report", "ranks.json", "--out", "again.html"], { cwd });
    expect(again).toMatchObject({ status: 0, stderr: "" });
    const rebuilt = checkPage(await readFile(join(cwd, "again.html"), "utf8"));
    expect(rebuilt.all("h1")[0]!.text).toBe(page.all("h1")[0]!.text);
    expect(rebuilt.all("svg")).toHaveLength(page.all("svg").length);
    expect(rebuilt.all("img")).toEqual([]);

    expect(await runProgram(["report", "output", "--out", "again.html"], { cwd })).toMatchObject({
      status: 0,
    });
    expect(await runProgram(["report", "output", "--out", "ranks.json"], { cwd })).toMatchObject({
      status: 2,
      stderr: expect.stringContaining("no report of dylora"),
    });
  },
  SLOW_MS,
);

const WINDOWS = {
  light: { viewport: { width: 1100, height: 900 }, colorScheme: "light" },
  dark: { viewport: { width: 1100, height: 900 }, colorScheme: "dark" },
  phone: { viewport: { width: 360, height: 740 }, colorScheme: "light", isMobile: true, hasTouch: true },
} as const satisfies Record<string, BrowserContextOptions>;

describe.skipIf(CHROMIUM_PATH === null)(`in a browser${CHROMIUM_NOTE}`, () => {
  let browser: Browser;
  const paths: Record<"bench" | "mixes" | "run" | "live" | "hasty", string> = {
    bench: "",
    mixes: "",
    run: "",
    live: "",
    hasty: "",
  };

  beforeAll(async () => {
    browser = await chromium.launch({ executablePath: CHROMIUM_PATH!, args: ["--no-sandbox"] });
    const folder = await tempFolder();
    const file = join(folder, "a.safetensors");
    const metadata = { ss_network_module: "networks.dylora", ss_network_args: '{"unit": "2"}' };
    await writeRandomAdapter(file, { modules: everyKindOfModule(8), metadata });
    await using adapter = await openAdapter(file);
    const embedded = await Promise.all((await fixturePaths()).slice(0, 10).map(embedFile));
    const pictures: PictureGrid = {
      id: "pictures",
      caption: "Pictures of this test.",
      axis: "Rank",
      walk: "Walk through the ranks",
      columns: [0, 4, 8, 12, 16].map((rank) => ({ title: `rank ${rank}`, highlighted: rank === 8 })),
      rows: ["a chick", "a bee"].map((prompt, row) => ({
        prompt,
        details: `seed ${row}`,
        pictures: embedded.slice(5 * row, 5 * row + 5),
      })),
    };
    const date = "2026-11-23T01:02:03Z";
    const log = await readRunLog(
      await writeSampleRunLog(folder, {
        steps: 600,
        resumedAt: [300],
        validateEvery: 100,
        pictures: { every: 200, paths: await fixturePaths() },
      }),
    );
    const grid = await runPictureGrid(log.pictures, new PictureStore());
    // Two mixes beside ranks of nearly their size.
    const mixes = sampleBenchReport({
      files: [
        { name: "cat.safetensors", ranks: [4, 8, 12, 16] },
        { name: "mix.safetensors", ranks: [16], isMixed: true, sizeBytes: 489_000 },
        { name: "calibrated.safetensors", ranks: [16], isMixed: true, sizeBytes: 481_000 },
        { name: "plain.safetensors", ranks: [8] },
      ],
      multipliers: [0.5, 1],
    });
    const pages = {
      bench: benchPage({ report: sampleBenchReport(), energy: [await readEnergyMap(adapter)], pictures }),
      mixes: benchPage({ report: mixes, energy: mixes.files.map(() => null), pictures: null }),
      run: trainingPage({ log, status: "finished", refreshSeconds: null, pictures: grid, date }),
      live: trainingPage({ log, status: "running", refreshSeconds: 3600, pictures: grid, date }),
      hasty: trainingPage({ log, status: "running", refreshSeconds: 1, pictures: grid, date }),
    };
    for (const name of ["bench", "mixes", "run", "live", "hasty"] as const) {
      paths[name] = join(folder, `${name}.html`);
      await writeFile(paths[name], pages[name]);
    }
  });

  afterAll(async () => {
    await browser?.close();
  });

  /** Opens a page; whatever it asks for beside itself, and whatever goes wrong in it, fails the test. */
  async function open(
    name: keyof typeof paths,
    options: BrowserContextOptions,
    use: (page: Page) => Promise<void>,
  ): Promise<void> {
    const context = await browser.newContext(options);
    const wrong: string[] = [];
    const url = pathToFileURL(paths[name]).href;
    context.on("request", (request) => {
      if (request.url() !== url && !request.url().startsWith("data:"))
        wrong.push(`asks for ${request.url()}`);
    });
    try {
      const page = await context.newPage();
      page.on("console", (message) => wrong.push(message.text()));
      page.on("pageerror", (error) => wrong.push(String(error)));
      await page.goto(url);
      await use(page);
      expect(wrong).toEqual([]);
    } finally {
      await context.close();
    }
  }

  const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");

  async function faults(page: Page): Promise<string[]> {
    await page.evaluate(await readFile(axe, "utf8"));
    const found = await page.evaluate<{ id: string; impact: string; nodes: { html: string }[] }[]>(
      "axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations)",
    );
    return found.map(({ id, impact, nodes }) => `${impact}: ${id} in ${nodes[0]!.html.slice(0, 120)}`);
  }

  describe.each(["bench", "mixes", "run", "live"] as const)("the %s page", (name) => {
    test.each(Object.entries(WINDOWS))("has no accessibility fault and fits its window: %s", (_, options) =>
      open(name, options, async (page) => {
        expect(await faults(page)).toEqual([]);
        await page.evaluate(
          "for (const details of document.querySelectorAll('details')) details.open = true",
        );
        expect(await faults(page)).toEqual([]);
        // Only tables and pictures may be wider than the window, inside of their own frames.
        expect(await page.evaluate("document.documentElement.scrollWidth - innerWidth")).toBeLessThanOrEqual(
          0,
        );
      }),
    );

    test("shows charts whose words are large enough and inside, in wide and in narrow windows", async () => {
      for (const options of [WINDOWS.light, WINDOWS.phone]) {
        await open(name, options, async (page) => {
          const charts = await page.evaluate<{ height: number; smallest: number; outside: string[] }[]>(`
            [...document.querySelectorAll("figure svg")]
              .filter((svg) => svg.getClientRects().length > 0)
              .map((svg) => {
                const box = svg.getBoundingClientRect();
                const scale = box.width / svg.viewBox.baseVal.width;
                const words = [...svg.querySelectorAll("text")];
                return {
                  height: box.height,
                  smallest: Math.min(...words.map((word) => parseFloat(getComputedStyle(word).fontSize) * scale)),
                  outside: words
                    .filter((word) => {
                      const { left, right, top, bottom } = word.getBoundingClientRect();
                      return left < box.left - 3 || right > box.right + 3 || top < box.top - 3 || bottom > box.bottom + 3;
                    })
                    .map((word) => word.textContent),
                };
              })
          `);
          expect(charts).toHaveLength((await page.locator("figure").count()) as number);
          for (const { height, smallest, outside } of charts) {
            expect(height).toBeGreaterThan(80);
            expect(smallest).toBeGreaterThan(11);
            expect(outside).toEqual([]);
          }
        });
      }
    });
  });

  test("files of nearly one size: no name covers a point, an interval or another name", async () => {
    for (const options of [WINDOWS.light, WINDOWS.phone]) {
      await open("mixes", options, async (page) => {
        const { names, covered, marks } = await page.evaluate<{
          names: string[];
          covered: string[];
          marks: number;
        }>(`
          (() => {
            const chart = [...document.querySelectorAll("#size-against-quality svg")]
              .find((svg) => svg.getClientRects().length > 0);
            const names = [...chart.querySelectorAll("text")].filter((text) => /^ranks? /.test(text.textContent));
            const marks = [...chart.querySelectorAll("g[stroke-width='2'] > path[transform], g[stroke-width='6'] > *")];
            const touches = (a, b) => {
              const [p, q] = [a.getBoundingClientRect(), b.getBoundingClientRect()];
              // A line of text is a little higher than its letters.
              return p.left < q.right && q.left < p.right && p.top + 2 < q.bottom && q.top < p.bottom - 2;
            };
            const covered = names.flatMap((name) => [...marks, ...names]
              .filter((other) => other !== name && touches(name, other))
              .map((other) => name.textContent + " on " + (other.textContent || other.tagName)));
            return { names: names.map((name) => name.textContent), covered, marks: marks.length };
          })()
        `);
        // Seven points, and the intervals of all but the best.
        expect(marks).toBe(7 + 6);
        expect(covered).toEqual([]);
        expect(names.filter((name) => name === "ranks to 16").length).toBeGreaterThan(0);
        expect(names).toContain("rank 16");
      });
    }
  });

  test("the bench page says everything without JavaScript", () =>
    open("bench", { ...WINDOWS.light, javaScriptEnabled: false }, async (page) => {
      expect(await page.locator("h1").innerText()).toBe("Rank 8 is enough");
      expect(await page.locator("figure svg:visible").count()).toBe(5);
      expect(await page.locator(".pictures img:visible").count()).toBe(10);
      expect(await page.locator("#results:visible, table:visible").count()).toBeGreaterThan(1);
      // Nothing is offered that would not work.
      expect(await page.locator("button, input, dialog").count()).toBe(0);
      await page.locator("summary").first().click();
      expect(await page.locator("figure table").first().isVisible()).toBe(true);
    }));

  test("a picture enlarges, and the slider walks through the ranks", () =>
    open("bench", WINDOWS.light, async (page) => {
      await page.locator(".pictures button").nth(1).click();
      const dialog = page.getByRole("dialog", { name: "a chick, seed 0" });
      expect(await dialog.locator("output").innerText()).toBe("rank 4");
      const shown = () => page.locator("dialog[open] img").getAttribute("src");
      const grid = (index: number) => page.locator(".pictures img").nth(index).getAttribute("src");
      expect(await shown()).toBe(await grid(1));
      expect((await dialog.locator("img").boundingBox())!.width).toBeGreaterThan(300);
      const slider = dialog.getByRole("slider", { name: /^Rank/ });
      await slider.press("ArrowRight");
      expect(await dialog.locator("output").innerText()).toBe("rank 8");
      expect(await shown()).toBe(await grid(2));
      await slider.press("End");
      expect(await shown()).toBe(await grid(4));
      expect(await slider.getAttribute("aria-valuetext")).toBe("rank 16");
      await dialog.getByRole("button", { name: "Next prompt" }).click();
      expect(await page.getByRole("dialog", { name: "a bee, seed 1" }).locator("output").innerText()).toBe(
        "rank 16",
      );
      expect(await shown()).toBe(await grid(9));
      expect(await faults(page)).toEqual([]);
      await page.keyboard.press("Escape");
      expect(await page.getByRole("dialog").count()).toBe(0);
      await page.getByRole("button", { name: "Walk through the ranks" }).click();
      expect(await shown()).toBe(await grid(0));
    }));

  test("the page of a run that goes on fetches itself, until it is held", () =>
    open("hasty", WINDOWS.light, async (page) => {
      const loads = () => page.evaluate<number>("performance.timeOrigin").catch(() => null);
      const first = await loads();
      await expect.poll(loads, { timeout: 20_000 }).toBeGreaterThan(first!);
      await page.getByRole("button", { name: "Hold" }).click();
      expect(await page.locator(".live").innerText()).toContain("Updates are held.");
      const held = await loads();
      await page.waitForTimeout(1500);
      expect(await loads()).toBe(held);
    }));

  test("on paper, every table is open", () =>
    open("bench", WINDOWS.light, async (page) => {
      await page.emulateMedia({ media: "print" });
      await page.evaluate("dispatchEvent(new Event('beforeprint'))");
      expect(await page.locator("details:not([open])").count()).toBe(0);
      expect(await page.locator("figure table:visible").count()).toBe(5);
      await page.evaluate("dispatchEvent(new Event('afterprint'))");
      expect(await page.locator("details[open]").count()).toBe(0);
    }));
});
