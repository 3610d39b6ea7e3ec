import { expect, test } from "vitest";
import { sampleBenchReport } from "../../test/helpers/sample-bench-report.js";
import { benchCsv } from "./bench-csv.js";

/** Fields of lines without quotes. */
const rowsOf = (text: string) =>
  text
    .trimEnd()
    .split("\r\n")
    .map((line) => line.split(","));

test("a line for each file, rank, multiplier and band, and for the base model", () => {
  const report = sampleBenchReport({ multipliers: [0.5, 1] });
  const [header, ...rows] = rowsOf(benchCsv(report));
  expect(rows).toHaveLength(5 + 4 * 2 * 5);
  for (const row of rows) expect(row).toHaveLength(header!.length);
  const cell = (row: readonly string[], name: string) => row[header!.indexOf(name)]!;
  expect(cell(rows[0]!, "mean_loss")).toBe(String(report.base.meanLoss));
  expect(rows.slice(1, 5).map((row) => Number(cell(row, "mean_loss")))).toEqual(report.base.bands);

  const file = report.files[0]!;
  const [rank] = file.ranks;
  const result = rank!.multipliers[1]!;
  const own = rows.filter(
    (row) => cell(row, "rank") === String(rank!.rank) && cell(row, "multiplier") === "1",
  );
  expect(own.map((row) => [cell(row, "first_timestep"), cell(row, "last_timestep")])).toEqual([
    ["0", "999"],
    ["0", "249"],
    ["250", "499"],
    ["500", "749"],
    ["750", "999"],
  ]);
  expect(own.map((row) => Number(cell(row, "versus_base_high")))).toEqual([
    result.versusBase.ciHigh,
    ...result.bands.map(({ versusBase }) => versusBase.ciHigh),
  ]);
  expect(own.map((row) => cell(row, "file_size_bytes"))).toEqual([
    String(rank!.fileSizeBytes),
    "",
    "",
    "",
    "",
  ]);
  const recommended = rows.filter((row) => cell(row, "recommended") === "true");
  expect(recommended.map((row) => Number(cell(row, "rank")))).toEqual([file.recommendation.rank]);
});

test("names with commas and quotes are quoted; what is infinite is empty", () => {
  const report = sampleBenchReport({ files: [{ name: 'a "b", c', ranks: [4] }], images: 1 });
  const text = benchCsv(report);
  expect(text).toContain('\r\n"a ""b"", c",4,1,0,999,');
  expect(text).not.toContain("Infinity");
});
