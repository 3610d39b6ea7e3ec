import { expect, test } from "vitest";
import { memoryTerminal } from "../../test/helpers/memory-terminal.js";
import { type Column, renderFields, renderTable } from "./table.js";

interface Row {
  rank: number;
  path: string;
}

const columns: Column<Row>[] = [
  { title: "rank", align: "right", value: (row) => String(row.rank) },
  { title: "file", value: (row) => row.path, shorten: true },
  { title: "size", align: "right", value: () => "1.3 MB" },
];
const rows = [
  { rank: 4, path: "out/cat-rank-4.safetensors" },
  { rank: 16, path: "out/a-folder-with-a-long-name/cat-rank-16.safetensors" },
];

test("columns are aligned and nothing is shortened where there is no terminal", () => {
  expect(renderTable(rows, columns, memoryTerminal({ columns: 40 }).stdout)).toBe(
    [
      "rank  file                                                     size",
      "   4  out/cat-rank-4.safetensors                             1.3 MB",
      "  16  out/a-folder-with-a-long-name/cat-rank-16.safetensors  1.3 MB",
      "",
    ].join("\n"),
  );
});

test("on a narrow terminal the flexible column keeps its end", () => {
  const text = renderTable(rows, columns, memoryTerminal({ isTerminal: true, columns: 46 }).stdout);
  expect(Math.max(...text.split("\n").map((line) => line.length))).toBeLessThanOrEqual(46);
  expect(text).toContain("…");
  expect(text).toContain("cat-rank-16.safetensors");
});

test("colour does not disturb the alignment", () => {
  const out = memoryTerminal({ color: true }).stdout;
  const painted: Column<Row>[] = [
    { title: "rank", value: (row) => out.style.green(String(row.rank)) },
    ...columns.slice(2),
  ];
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colour codes begin with the escape character.
  const plain = renderTable(rows, painted, out).replace(/\x1b\[\d+m/g, "");
  expect(plain).toBe(["rank    size", "4     1.3 MB", "16    1.3 MB", ""].join("\n"));
});

test("fields are lined up", () => {
  expect(
    renderFields(
      [
        ["rank", "16"],
        ["base model", "sd_v1"],
      ],
      "  ",
    ),
  ).toBe("  rank        16\n  base model  sd_v1\n");
});
