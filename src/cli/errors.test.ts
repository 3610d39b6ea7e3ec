import { describe, expect, test } from "vitest";
import { memoryTerminal } from "../../test/helpers/memory-terminal.js";
import { DyloraError, internalError } from "../errors.js";
import { asDyloraError, printError } from "./errors.js";

const rankError = new DyloraError("E_RANK", "extract: rank 6 is not a multiple of unit 4", {
  note: "Nothing was written. Use --ranks 4,8.",
  cause: new Error("the cause"),
});

function printed(
  error: DyloraError,
  options: { json?: boolean; debug?: boolean; color?: boolean } = {},
): string {
  const { json = false, debug = false, color = false } = options;
  const { stderr } = memoryTerminal({ color });
  printError(error, stderr, { json, debug });
  return stderr.text;
}

describe("printError", () => {
  test("message and note, no stack", () => {
    expect(printed(rankError)).toBe(
      "error[E_RANK]: extract: rank 6 is not a multiple of unit 4\n  note: Nothing was written. Use --ranks 4,8.\n",
    );
  });

  test("colour only marks the code", () => {
    const text = printed(rankError, { color: true });
    expect(text.startsWith("\x1b[1m\x1b[31merror[E_RANK]\x1b[39m\x1b[22m: extract")).toBe(true);
  });

  test("--debug adds the stack and that of the cause", () => {
    const text = printed(rankError, { debug: true });
    expect(text).toContain("DyloraError: extract: rank 6");
    expect(text).toMatch(/caused by Error: the cause\n\s+at /);
  });

  test("--json prints one document", () => {
    expect(JSON.parse(printed(rankError, { json: true }))).toEqual({
      schemaVersion: 1,
      error: {
        code: "E_RANK",
        message: "extract: rank 6 is not a multiple of unit 4",
        note: "Nothing was written. Use --ranks 4,8.",
        exitCode: 2,
      },
    });
  });
});

describe("asDyloraError", () => {
  test("leaves our own errors alone", () => {
    expect(asDyloraError(rankError)).toBe(rankError);
  });

  test.each([
    ["ENOENT", "E_NOT_FOUND", 3],
    ["EACCES", "E_READ", 3],
    ["ENOSPC", "E_WRITE", 1],
    ["EROFS", "E_WRITE", 1],
  ])("a system error %s is %s", (code, expected, exitCode) => {
    const error = asDyloraError(Object.assign(new Error("system"), { code, path: "/x/y" }));
    expect(error).toMatchObject({
      code: expected,
      exitCode,
      message: expect.stringMatching(/^\/x\/y: .*\)$/),
    });
  });

  test("a failed allocation is a lack of memory", () => {
    expect(asDyloraError(new RangeError("Array buffer allocation failed"))).toMatchObject({
      code: "E_MEMORY",
      exitCode: 4,
    });
  });

  test("anything else is a defect, with the way to report it", () => {
    const error = asDyloraError(new TypeError("x is not a function"));
    expect(error).toMatchObject({
      code: "E_INTERNAL",
      exitCode: 1,
      message: "internal: x is not a function",
    });
    expect(error.note).toContain("report");
    expect(asDyloraError("a text")).toMatchObject({ message: "internal: a text" });
    expect(asDyloraError(internalError("no such state")).message).toBe("internal: no such state");
  });
});
