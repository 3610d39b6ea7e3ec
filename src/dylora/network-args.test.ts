import { describe, expect, it } from "vitest";
import { DyloraError } from "../errors.js";
import {
  DEFAULT_GEOMETRIC_P,
  type NetworkModule,
  networkArgsRecord,
  parseNetworkArgs,
  rankPlanOf,
} from "./network-args.js";

function refusal(entries: string[], module: NetworkModule = "dylora"): DyloraError {
  try {
    parseNetworkArgs(entries, module);
  } catch (error) {
    if (error instanceof DyloraError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("parseNetworkArgs", () => {
  it("has defaults for everything", () => {
    expect(parseNetworkArgs([], "dylora")).toEqual({
      unit: 1,
      convDim: null,
      convAlpha: null,
      updateMode: "full",
      weighting: { kind: "uniform" },
      ranks: null,
      rankDraw: "step",
    });
  });

  it("reads every key, with - or _ and with blanks", () => {
    const entries = [
      "unit=4",
      "conv-dim = 8",
      "conv_alpha=0.5",
      "update_mode=frozen",
      "rank_distribution=geometric:0.3",
      "ranks=4, 8,16",
      "rank_draw=module",
    ];
    expect(parseNetworkArgs(entries, "dylora")).toEqual({
      unit: 4,
      convDim: 8,
      convAlpha: 0.5,
      updateMode: "frozen",
      weighting: { kind: "geometric", p: 0.3 },
      ranks: [4, 8, 16],
      rankDraw: "module",
    });
  });

  it("reads the other distributions", () => {
    const weighting = (...entries: string[]) => parseNetworkArgs(entries, "dylora").weighting;
    expect(weighting("rank_distribution=geometric")).toEqual({ kind: "geometric", p: DEFAULT_GEOMETRIC_P });
    expect(weighting("rank_distribution=list", "ranks=2,4")).toEqual({ kind: "uniform" });
    expect(weighting("rank_distribution=uniform")).toEqual({ kind: "uniform" });
  });

  it("takes conv_alpha as sd-scripts does: 1 where it is missing, the rank for 0", () => {
    expect(parseNetworkArgs(["conv_dim=8"], "lora").convAlpha).toBe(1);
    expect(parseNetworkArgs(["conv_dim=8", "conv_alpha=0"], "lora").convAlpha).toBe(8);
  });

  it.each([
    [["unti=4"], "unknown key unti; did you mean unit?"],
    [["update_modes=full"], "did you mean update_mode?"],
    [["rank=4"], "did you mean ranks?"],
    [["unit"], '"unit" is not of the form key=value'],
    [["=4"], "not of the form key=value"],
    [["unit=4", "unit=8"], "unit is given twice"],
    [["unit="], 'unit must be a whole number from 1, got ""'],
    [["unit=0"], 'got "0"'],
    [["unit=2.5"], 'got "2.5"'],
    [["conv_dim=8", "conv_alpha=-1"], 'conv_alpha must be a number from 0, got "-1"'],
    [["conv_dim=8", "conv_alpha="], 'got ""'],
    [["conv_alpha=1"], "conv_alpha is given without conv_dim"],
    [["update_mode=frosen"], 'update_mode must be full or frozen, got "frosen"'],
    [["rank_draw=epoch"], "rank_draw must be step or module"],
    [["rank_distribution=poisson"], "must be uniform, geometric, geometric:<p> or list"],
    [["rank_distribution=geometric:1"], "above 0 and below 1"],
    [["rank_distribution=geometric:"], 'got "geometric:"'],
    [["rank_distribution=list"], "rank_distribution=list needs the ranks"],
    [["ranks=4,,8"], 'ranks must be a whole number from 1, got ""'],
  ])("refuses %j", (entries, message) => {
    const error = refusal(entries);
    expect(error.code).toBe("E_CONFIG");
    expect(error.message).toContain(message);
  });

  it("tells the users of other trainers what their key is called here", () => {
    expect(refusal(["block_size=4"]).note).toContain("unit");
    expect(refusal(["rank_dropout=0.1"]).note).toContain("leave it out");
    expect(refusal(["constructor=1"]).message).toContain("unknown key constructor");
  });

  it("keeps DyLoRA's keys out of an ordinary LoRA", () => {
    const error = refusal(["unit=4"], "lora");
    expect(error.message).toContain("unit belongs to DyLoRA");
    expect(error.note).toContain("--network_module dylora");
  });
});

describe("rankPlanOf", () => {
  it("joins --network_dim and the arguments", () => {
    const args = parseNetworkArgs(["unit=4", "update_mode=frozen", "conv_dim=4"], "dylora");
    expect(rankPlanOf("dylora", 12, args)).toMatchObject({ ranks: [4, 8, 12], updateMode: "frozen" });
    expect(rankPlanOf("lora", 12, parseNetworkArgs(["conv_dim=5"], "lora")).ranks).toEqual([12]);
  });

  it("refuses what does not fit together", () => {
    const plan = (dim: number, ...entries: string[]) =>
      rankPlanOf("dylora", dim, parseNetworkArgs(entries, "dylora"));
    expect(() => plan(10, "unit=4")).toThrow(/not a multiple of unit 4/);
    expect(() => plan(8, "conv_dim=16")).toThrow(/conv_dim 16 is above the maximum rank 8/);
  });
});

describe("networkArgsRecord", () => {
  it("is read back as the same arguments", () => {
    const entries = [
      "unit=4",
      "conv_dim=8",
      "conv_alpha=0.5",
      "update_mode=frozen",
      "rank_distribution=geometric:0.3",
      "ranks=4,8,16",
      "rank_draw=module",
    ];
    for (const given of [entries, [], entries.slice(0, 1)]) {
      const args = parseNetworkArgs(given, "dylora");
      const record = networkArgsRecord(args, "dylora");
      const again = Object.entries(record).map(([key, value]) => `${key}=${value}`);
      expect(parseNetworkArgs(again, "dylora")).toEqual(args);
    }
  });

  it("spells the defaults of a DyLoRA out, and says nothing of it in an ordinary LoRA", () => {
    expect(networkArgsRecord(parseNetworkArgs([], "dylora"), "dylora")).toEqual({
      unit: "1",
      update_mode: "full",
      rank_distribution: "uniform",
      rank_draw: "step",
    });
    expect(networkArgsRecord(parseNetworkArgs(["conv_dim=4"], "lora"), "lora")).toEqual({
      conv_dim: "4",
      conv_alpha: "1",
    });
  });
});
