import { describe, expect, it } from "vitest";
import { DyloraError } from "../errors.js";
import { KeyValues } from "./key-values.js";

const parse = (...entries: string[]) =>
  KeyValues.parse("optimizer_args", entries, ["weight_decay", "betas", "mode"], {
    lr: "Use --learning_rate.",
  });

function refusal(action: () => unknown): DyloraError {
  try {
    action();
  } catch (error) {
    if (error instanceof DyloraError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("KeyValues", () => {
  it("reads texts, numbers, lists and choices; what is absent is null", () => {
    const values = parse("weight-decay = 1e-2", "betas=0.9, 0.99", "mode=fast");
    expect(values.keys).toEqual(["weight_decay", "betas", "mode"]);
    expect(values.number("weight_decay")).toBe(0.01);
    expect(values.numbers("betas")).toEqual([0.9, 0.99]);
    expect(values.choice("mode", ["slow", "fast"])).toBe("fast");
    expect(values.text("mode")).toBe("fast");
    const none = parse();
    expect([
      none.text("mode"),
      none.number("mode"),
      none.numbers("mode"),
      none.choice("mode", ["a"]),
    ]).toEqual([null, null, null, null]);
  });

  it("keeps everything after the first equals sign", () => {
    expect(parse("mode=a=b").text("mode")).toBe("a=b");
  });

  it.each([
    ["mode", 'optimizer_args: "mode" is not of the form key=value'],
    ["=1", "not of the form key=value"],
    ["weight_deca=1", "unknown key weight_deca; did you mean weight_decay?"],
    ["something_else=1", "unknown key something_else"],
    ["lr=1", "lr is not a key of dylora"],
    ["constructor=1", "unknown key constructor"],
  ])("refuses %s", (entry, message) => {
    const error = refusal(() => parse(entry));
    expect(error.code).toBe("E_CONFIG");
    expect(error.message).toContain(message);
  });

  it("refuses a key given twice, and answers for keys of other programs", () => {
    expect(refusal(() => parse("mode=a", "mode=b")).message).toBe("optimizer_args: mode is given twice");
    expect(refusal(() => parse("lr=1")).note).toBe("Use --learning_rate.");
    expect(refusal(() => parse("weight_deca=1")).note).toBe("Known keys: weight_decay, betas, mode.");
  });

  it.each([
    ["", {}, "a number, got"],
    ["abc", {}, "a number, got"],
    ["Infinity", {}, "a number, got"],
    ["1.5", { integer: true }, "a whole number, got"],
    ["-1", { min: 0 }, "a number from 0, got"],
    ["0", { above: 0, below: 1 }, "a number above 0 and below 1, got"],
    ["1", { min: 0, below: 1 }, "a number from 0 and below 1, got"],
    ["2", { below: 1 }, "a number below 1, got"],
  ] as const)("refuses the number %j within %j", (text, limits, message) => {
    const error = refusal(() => parse(`weight_decay=${text}`).number("weight_decay", limits));
    expect(error.message).toBe(`optimizer_args: weight_decay must be ${message} "${text}"`);
    expect(refusal(() => parse(`betas=0.5,${text}`).numbers("betas", limits)).message).toContain(message);
  });

  it("refuses a choice that is none", () => {
    expect(refusal(() => parse("mode=x").choice("mode", ["slow", "fast"])).message).toBe(
      'optimizer_args: mode must be slow or fast, got "x"',
    );
  });
});
