/** Tensors as usual writers spell them are read in one step: the same must come out as from any other spelling. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { parseHeader } from "./parse-header.js";

const DATA_BYTES = 6;

/** What a header is read as, or why it is refused; without positions, which depend on the spelling. */
function outcome(json: string): unknown {
  const bytes = Buffer.from(json, "utf8");
  try {
    const { tensors, metadata, dataStartBytes } = parseHeader(bytes, {
      subject: "x",
      fileSizeBytes: 8 + bytes.length + DATA_BYTES,
    });
    const infos = [...tensors.values()];
    return {
      tensors: infos.map((info) => ({ ...info, offsetBytes: info.offsetBytes - dataStartBytes })),
      metadata: metadata && Object.entries(metadata),
    };
  } catch (error) {
    return (error as Error).message.replace(/at character \d+/, "at a character");
  }
}

/** What can stand in the place of a field. */
const anyValue = fc.oneof(
  fc.constantFrom(0, 2, 4, 6, -1, 1.5, 2 ** 53 - 1, 2 ** 53, 1e21, null, "2", "F16", "X9", true),
  fc.jsonValue({ maxDepth: 1 }),
);

const anyName = fc.oneof(
  fc.string({ unit: "grapheme" }),
  fc.constantFrom("__proto__", "__metadata__", "7", "lora_unet.x", 'a"b', "a\\b"),
);

/** Two tensors whose data fill the file, of which one or none has a field replaced or added. */
const anyHeader = fc
  .record({
    names: fc.tuple(anyName, anyName),
    metadata: fc.option(fc.dictionary(fc.string(), fc.string({ unit: "grapheme" }))),
    change: fc.option(
      fc.record({
        tensor: fc.constantFrom(0, 1),
        field: fc.constantFrom("dtype", "shape", "data_offsets", "x"),
        value: fc.oneof(anyValue, fc.array(anyValue, { maxLength: 3 })),
      }),
    ),
  })
  .map(({ names, metadata, change }) => {
    const tensors: Record<string, unknown>[] = [
      { dtype: "U8", shape: [2], data_offsets: [0, 2] },
      { dtype: "F16", shape: [1, 2], data_offsets: [2, 6] },
    ];
    if (change !== null) tensors[change.tensor]![change.field] = change.value;
    const entries = names.map((name, i) => [name, tensors[i]] as const);
    return metadata === null ? entries : [["__metadata__", metadata] as const, ...entries];
  });

/** Of two faults, the first is named. */
const NAME_TWICE_AND_UNKNOWN_DTYPE: (readonly [string, Record<string, unknown>])[] = [
  ["a", { dtype: "U8", shape: [2], data_offsets: [0, 2] }],
  ["a", { dtype: "X9", shape: [1, 2], data_offsets: [2, 6] }],
];

type Spelling = "compact" | "python" | "indented";

/** An object's text; the same name may occur twice. */
function textOf(entries: readonly (readonly [string, unknown])[], spelling: Spelling): string {
  const colon = spelling === "compact" ? ":" : ": ";
  const comma = spelling === "compact" ? "," : ", ";
  const parts = entries.map(
    ([name, value]) => `${JSON.stringify(name)}${colon}${valueText(value, spelling)}`,
  );
  return `{${parts.join(comma)}}`;
}

function valueText(value: unknown, spelling: Spelling): string {
  if (spelling !== "python") return JSON.stringify(value, null, spelling === "compact" ? 0 : 1);
  if (Array.isArray(value)) return `[${value.map((item) => valueText(item, spelling)).join(", ")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  return textOf(Object.entries(value), spelling);
}

it.each(["compact", "python"] as const)(
  "%s: says the same as of a spelling whose fields are read one by one",
  (spelling) => {
    fc.assert(
      fc.property(anyHeader, (entries) => {
        expect(outcome(textOf(entries, spelling))).toEqual(outcome(textOf(entries, "indented")));
      }),
      { numRuns: 2000, examples: [[NAME_TWICE_AND_UNKNOWN_DTYPE]] },
    );
  },
);

it("a shape of more dimensions than memory for a pattern's steps back", () => {
  const shape = `[${"1,".repeat(5e6)}1]`;
  expect(outcome(`{"a":{"dtype":"U8","shape":${shape},"data_offsets":[0,6]}}`)).toContain(
    "they span 6 bytes",
  );
});
