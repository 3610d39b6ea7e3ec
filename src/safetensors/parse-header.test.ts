import { describe, expect, it } from "vitest";
import { MAX_HEADER_BYTES } from "./header.js";
import { parseHeader } from "./parse-header.js";

/** A header with `dataBytes` of data behind it. */
function parse(json: string | Uint8Array, dataBytes: number) {
  const bytes = typeof json === "string" ? Buffer.from(json, "utf8") : json;
  return parseHeader(bytes, { subject: "x.safetensors", fileSizeBytes: 8 + bytes.length + dataBytes });
}

/** The message of the E_FORMAT error that a header is refused with. */
function refusal(json: string | Uint8Array, dataBytes: number): string {
  try {
    parse(json, dataBytes);
  } catch (error) {
    expect(error).toMatchObject({ code: "E_FORMAT", exitCode: 3 });
    expect((error as Error).message).toMatch(/^read x\.safetensors: /);
    return (error as Error).message.slice("read x.safetensors: ".length);
  }
  throw new Error(`accepted: ${json}`);
}

const A16 = '"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}';

describe("accepted", () => {
  it("tensors in the order of their data, with absolute positions", () => {
    const header = parse(
      '{"__metadata__":{"k":"v","__proto__":"p"},"b":{"dtype":"F16","shape":[],"data_offsets":[16,18]},' +
        `${A16}}`,
      18,
    );
    const start = header.dataStartBytes;
    expect([...header.tensors.values()]).toEqual([
      { name: "a", dtype: "F32", shape: [2, 2], offsetBytes: start, sizeBytes: 16 },
      { name: "b", dtype: "F16", shape: [], offsetBytes: start + 16, sizeBytes: 2 },
    ]);
    expect(Object.entries(header.metadata!)).toEqual([
      ["k", "v"],
      ["__proto__", "p"],
    ]);
  });

  it("no tensors, and no metadata", () => {
    expect(parse("{}", 0)).toMatchObject({ tensors: new Map(), metadata: null, dataStartBytes: 10 });
    expect(parse('{"__metadata__":null}', 0).metadata).toBe(null);
    expect(parse('{"__metadata__":{}}', 0).metadata).toEqual({});
  });

  it("white space before, inside and after, as the reference does", () => {
    const header = parse(
      '\t\n{ "a" : { "shape" : [ 2 , 2 ] , "data_offsets":[ 0 , 16 ],\r\n"dtype":"F32" } }\r \t\n',
      16,
    );
    expect(header.tensors.get("a")).toMatchObject({ shape: [2, 2], sizeBytes: 16 });
  });

  it("empty tensors", () => {
    const header = parse(
      '{"a":{"dtype":"I32","shape":[2,0],"data_offsets":[0,0]},"b":{"dtype":"I32","shape":[0],"data_offsets":[0,0]}}',
      0,
    );
    expect(header.tensors.size).toBe(2);
  });

  it("unknown fields of a tensor, whatever they hold", () => {
    const extra = '"x":{"y":[1.5e-3,true,false,null,"\\u00e9",{}],"z":-0}';
    const header = parse(`{"a":{${extra},"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1);
    expect(header.tensors.get("a")).toMatchObject({ dtype: "U8", shape: [1] });
  });

  it("names and values with every kind of character", () => {
    const name = 'quote " backslash \\ newline \n nul \u0000 ü 漢 😀';
    const header = parse(
      JSON.stringify({
        __metadata__: { [name]: name },
        [name]: { dtype: "U8", shape: [], data_offsets: [0, 1] },
      }),
      1,
    );
    expect(header.tensors.has(name)).toBe(true);
    expect(header.metadata).toEqual({ [name]: name });
    expect(
      parse('{"\\ud83d\\ude00\\/":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}', 1).tensors.has("😀/"),
    ).toBe(true);
  });

  it("types smaller than a byte that fill whole bytes", () => {
    const header = parse(
      '{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]},"b":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[1,4]}}',
      4,
    );
    expect([...header.tensors.values()].map(({ sizeBytes }) => sizeBytes)).toEqual([1, 3]);
  });
});

describe("refused: not JSON", () => {
  it.each([
    ["", 'expected "{", found the end'],
    ["{", "expected a string, found the end"],
    ["[]", 'expected "{", found "["'],
    ["\ufeff{}", 'expected "{", found "\ufeff"'],
    ["{}{}", 'expected the end, found "{"'],
    ["{}\u0000", 'expected the end, found "\\u0000"'],
    ['{"a"', 'expected ":", found the end'],
    ['{"a" {}', 'expected ":", found "{"'],
    [`{${A16},}`, 'expected a string, found "}"'],
    [`{${A16} "b"`, 'expected "}", found a quotation mark'],
    ['{"a', "the string has no end"],
    ['{"a\\"', "the string has no end"],
    ['{"a\n":1}', "a control character"],
    ['{"\\x41":1}', "an invalid escape sequence"],
    ['{"\\ud800":1}', "half of a surrogate pair"],
  ])("%j", (json, problem) => {
    expect(refusal(json, 16)).toContain(problem);
  });

  it("names the place", () => {
    expect(refusal('{"a":{"dtype":1}}', 0)).toContain(
      'not valid at character 14: the dtype of tensor "a" is not a string',
    );
  });

  it("text that is not UTF-8", () => {
    expect(refusal(Uint8Array.of(0x7b, 0xff, 0x7d), 0)).toBe("the header is not valid UTF-8 text");
    expect(refusal(Uint8Array.of(0x7b, 0x22, 0xed, 0xa0, 0x80, 0x22, 0x7d), 0)).toBe(
      "the header is not valid UTF-8 text",
    );
  });

  it("nested so deep that a recursive reader would run out of stack", () => {
    const depth = 200_000;
    expect(refusal(`{"a":{"x":${"[".repeat(depth)}${"]".repeat(depth)}}}`, 0)).toContain(
      "more than 128 deep",
    );
  });

  it("a header larger than 100 MB", () => {
    expect(refusal(new Uint8Array(MAX_HEADER_BYTES + 1), 0)).toContain(
      "100000001 bytes, more than the 100000000",
    );
  });
});

describe("refused: keys", () => {
  it.each([
    ["the same tensor twice", `{${A16},${A16}}`, 'the key "a" occurs twice'],
    [
      "the same tensor twice, spelled differently",
      `{${A16},"\\u0061":{"dtype":"U8","shape":[0],"data_offsets":[16,16]}}`,
      'the key "a" occurs twice',
    ],
    ["metadata twice", '{"__metadata__":{},"__metadata__":{}}', 'the key "__metadata__" occurs twice'],
    ["a metadata key twice", '{"__metadata__":{"a":"1","a":"2"}}', 'the metadata key "a" occurs twice'],
    [
      "a field twice",
      '{"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
      'tensor "a" has "dtype" twice',
    ],
  ])("%s", (_, json, problem) => {
    expect(refusal(json, 16)).toContain(problem);
  });

  it.each(["1", "null", "true", '{"a":"b"}', '["a"]'])("a metadata value %s", (value) => {
    expect(refusal(`{"__metadata__":{"k":${value}}}`, 0)).toContain(
      'the value of metadata key "k" is not a string',
    );
  });

  it.each(["[]", '"a"', "1"])("metadata that is %s", (value) => {
    expect(refusal(`{"__metadata__":${value}}`, 0)).toContain('expected "{"');
  });
});

describe("refused: the description of a tensor", () => {
  it.each([
    ["1", "is not described by an object"],
    ['["U8",[0],[0,0]]', "is not described by an object"],
    ["{}", "has no dtype"],
    ['{"dtype":"U8"}', "has no shape"],
    ['{"dtype":"U8","shape":[0]}', "has no data_offsets"],
    ['{"dtype":"F17","shape":[0],"data_offsets":[0,0]}', 'has the unknown dtype "F17"'],
    ['{"dtype":"f32","shape":[0],"data_offsets":[0,0]}', 'has the unknown dtype "f32"'],
    ['{"dtype":"toString","shape":[0], "data_offsets":[0,0]}', 'has the unknown dtype "toString"'],
    ['{"dtype":null,"shape":[0],"data_offsets":[0,0]}', "is not a string"],
    ['{"dtype":"U8","shape":4,"data_offsets":[0,4]}', 'the shape of tensor "t" is not a list'],
    [
      '{"dtype":"U8","shape":[-1],"data_offsets":[0,0]}',
      'the shape of tensor "t" has -1, which is no whole number',
    ],
    ['{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}', "has -0, which is no whole number"],
    ['{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}', "has 1.0, which is no whole number"],
    ['{"dtype":"U8","shape":[1e0],"data_offsets":[0,1]}', "has 1e0, which is no whole number"],
    ['{"dtype":"U8","shape":[01],"data_offsets":[0,1]}', 'expected "]", found "1"'],
    ['{"dtype":"U8","shape":["1"],"data_offsets":[0,1]}', "expected a number, found a quotation mark"],
    ['{"dtype":"U8","shape":[null],"data_offsets":[0,1]}', 'expected a number, found "n"'],
    ['{"dtype":"U8","shape":[1,],"data_offsets":[0,1]}', 'expected a number, found "]"'],
    ['{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,0]}', "an overflow"],
    ['{"dtype":"U8","shape":[9007199254740992],"data_offsets":[0,0]}', "9007199254740992: an overflow"],
    ['{"dtype":"U8","shape":[1],"data_offsets":[0]}', "are 1 numbers instead of 2"],
    ['{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}', "are 3 numbers instead of 2"],
    ['{"dtype":"U8","shape":[1],"data_offsets":[0,-1]}', 'data_offsets of tensor "t" has -1'],
    ['{"dtype":"U8","shape":[1],"data_offsets":[0,1.5]}', "has 1.5, which is no whole number"],
  ])("%s", (description, problem) => {
    const message = refusal(`{"t":${description}}`, 1);
    expect(message).toContain(problem);
    if (!problem.startsWith("expected")) expect(message).toContain('tensor "t"');
  });
});

describe("refused: the layout of the data", () => {
  it("a tensor that is cut off", () => {
    expect(refusal(`{${A16}}`, 14)).toBe(
      'tensor "a" ends at byte 16 of the data, but the file has only 14 of 16 bytes: it is truncated',
    );
  });

  it("a tensor far out of bounds", () => {
    expect(
      refusal('{"a":{"dtype":"U8","shape":[9007199254740],"data_offsets":[0,9007199254740]}}', 4),
    ).toContain("ends at byte 9007199254740 of the data, but the file has only 4");
  });

  it("bytes behind the last tensor", () => {
    expect(refusal(`{${A16}}`, 50)).toBe(
      "the tensors end at byte 16 of the data, but the file goes on for 34 bytes",
    );
    expect(refusal("{}", 1)).toBe("the tensors end at byte 0 of the data, but the file goes on for 1 bytes");
  });

  it("a gap", () => {
    expect(refusal(`{${A16},"b":{"dtype":"U8","shape":[4],"data_offsets":[20,24]}}`, 24)).toBe(
      'tensor "b" has data_offsets [20, 24]: the 4 bytes before it belong to no tensor',
    );
    expect(refusal('{"b":{"dtype":"U8","shape":[4],"data_offsets":[1,5]}}', 5)).toContain(
      "the 1 bytes before it",
    );
  });

  it("an overlap", () => {
    expect(refusal(`{${A16},"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}}`, 20)).toBe(
      'tensor "b" has data_offsets [12, 20]: it overlaps tensor "a" at [0, 16]',
    );
    expect(refusal(`{${A16},"b":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}`, 16)).toContain(
      "overlaps",
    );
  });

  it("an end before the beginning", () => {
    expect(refusal('{"a":{"dtype":"U8","shape":[0],"data_offsets":[4,0]}}', 4)).toContain(
      "it ends before it begins",
    );
  });

  it("bytes that are not shape x dtype", () => {
    expect(refusal('{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,4]}}', 4)).toBe(
      'tensor "a" has data_offsets [0, 4]: they span 4 bytes, but F32 [2, 2] takes 16',
    );
    expect(refusal('{"a":{"dtype":"F16","shape":[],"data_offsets":[0,0]}}', 0)).toContain("F16 [] takes 2");
  });

  it("a size that overflows", () => {
    for (const shape of [
      "[2,9007199254740991]",
      "[4294967296,4294967296]",
      "[2147483648,4194304,0]",
      "[9007199254740991]",
    ]) {
      expect(refusal(`{"a":{"dtype":"I32","shape":${shape},"data_offsets":[0,16]}}`, 16)).toContain(
        "is an overflow",
      );
    }
  });

  it("a type smaller than a byte that ends inside one", () => {
    expect(refusal('{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}', 1)).toContain(
      "F4 [3] does not fill whole bytes",
    );
  });
});
