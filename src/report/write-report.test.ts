import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { html } from "./html.js";
import { renderPage } from "./page.js";
import { writeReport } from "./write-report.js";

const page = (headline: string) =>
  renderPage({
    title: headline,
    headline,
    kicker: "test",
    lede: html`<p>test</p>`,
    body: null,
    date: "2026-11-23T01:02:03Z",
    refreshSeconds: null,
  });

test("a page replaces a page of dylora, and nothing else", async () => {
  const folder = await tempFolder({ "mine.html": "<!doctype html><title>my own notes</title>" });
  const path = join(folder, "page.html");
  await writeReport(path, page("first"));
  await writeReport(path, page("second"));
  expect(await readFile(path, "utf8")).toBe(page("second"));

  const mine = join(folder, "mine.html");
  await expect(writeReport(mine, page("third"))).rejects.toMatchObject({
    code: "E_EXISTS",
    message: expect.stringContaining("no report of dylora"),
  });
  expect(await readFile(mine, "utf8")).toContain("my own notes");
});
