import { describe, expect, it } from "vitest";
import { readDyloraFacts } from "./dylora-facts.js";

const NOT_DYLORA = {
  isDylora: false,
  unit: null,
  alphaRule: "paper",
  alphaRuleSource: "assumed",
  updateMode: null,
  trainedRanks: null,
  maxRank: 16,
  problems: [],
};

describe("readDyloraFacts", () => {
  it.each([
    ["no metadata", {}, {}],
    ["a plain LoRA", { ss_network_module: "networks.lora", ss_network_args: '{"conv_dim": "4"}' }, {}],
    ["args that are None", { ss_network_module: "networks.lora", ss_network_args: "None" }, {}],
    [
      "this project's own",
      {
        ss_network_module: "networks.dylora",
        ss_network_args: '{"unit": "4", "alpha_rule": "paper", "update_mode": "frozen"}',
      },
      { isDylora: true, unit: 4, alphaRuleSource: "metadata", updateMode: "frozen" },
    ],
    [
      "this project's own, with a list of ranks",
      {
        ss_network_module: "networks.dylora",
        ss_network_args: '{"unit": "4", "alpha_rule": "paper", "ranks": "16, 4,8"}',
      },
      { isDylora: true, unit: 4, alphaRuleSource: "metadata", trainedRanks: [4, 8, 16] },
    ],
    [
      "sd-scripts'",
      { ss_network_module: "networks.dylora", ss_network_args: '{"unit": "4"}' },
      { isDylora: true, unit: 4, alphaRule: "sd-scripts", alphaRuleSource: "trainer" },
    ],
    [
      "sd-scripts' without a unit",
      { ss_network_module: "networks.dylora" },
      { isDylora: true, unit: 1, alphaRule: "sd-scripts", alphaRuleSource: "trainer" },
    ],
    [
      "numbers instead of strings",
      { ss_network_module: "networks.dylora", ss_network_args: '{"unit": 8}' },
      { isDylora: true, unit: 8, alphaRule: "sd-scripts", alphaRuleSource: "trainer" },
    ],
    [
      "LyCORIS'",
      { ss_network_module: "lycoris.kohya", ss_network_args: '{"algo": "DyLoRA", "block_size": "8"}' },
      { isDylora: true, unit: 8, alphaRule: "lycoris", alphaRuleSource: "trainer" },
    ],
    [
      "LyCORIS' without a block size",
      { ss_network_module: "lycoris.kohya", ss_network_args: '{"algo": "dylora"}' },
      { isDylora: true, unit: 4, alphaRule: "lycoris", alphaRuleSource: "trainer" },
    ],
    ["LyCORIS' LoCon", { ss_network_module: "lycoris.kohya", ss_network_args: '{"algo": "locon"}' }, {}],
    [
      "a copy that was extracted from LyCORIS'",
      { ss_network_module: "lycoris.kohya", ss_network_args: '{"algo": "dylora", "alpha_rule": "paper"}' },
      { isDylora: true, unit: 4, alphaRule: "paper", alphaRuleSource: "metadata" },
    ],
  ])("%s", (_, metadata, facts) => {
    expect(readDyloraFacts(metadata, 16)).toEqual({ ...NOT_DYLORA, ...facts });
  });

  it.each([
    ["{not json", "ss_network_args is no JSON"],
    ["[4]", "is no JSON object"],
    ['{"unit": "four"}', 'unit is "four" instead of a whole number'],
    ['{"unit": "0"}', 'unit is "0"'],
    ['{"unit": "5"}', "16, is no multiple of unit 5"],
    ['{"alpha_rule": "mine"}', 'unknown alpha_rule "mine"'],
    ['{"update_mode": "half"}', 'unknown update_mode "half"'],
    ['{"ranks": "4,x"}', 'ranks is "x"'],
  ])("%s is a problem, not a failure", (args, problem) => {
    const facts = readDyloraFacts({ ss_network_module: "networks.dylora", ss_network_args: args }, 16);
    expect(facts).toMatchObject({
      isDylora: true,
      alphaRule: "sd-scripts",
      trainedRanks: null,
      updateMode: null,
    });
    expect(facts.problems).toEqual([expect.stringContaining(problem)]);
    expect(facts.alphaRuleSource).toBe(args.includes("mine") ? "unknown" : "trainer");
  });
});
