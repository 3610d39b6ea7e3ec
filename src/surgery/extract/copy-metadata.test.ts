import { expect, it } from "vitest";
import { readDyloraFacts } from "../../adapter/index.js";
import { type CopyFacts, extractedMetadata } from "./copy-metadata.js";

const FACTS: CopyFacts = {
  rank: 4,
  maxRank: 16,
  unit: 4,
  alphaRule: "paper",
  isDylora: true,
  alpha: 8,
  components: { unet: { rank: 4, alphas: [8] }, te: { rank: 4, alphas: [8] } },
  isPerComponent: false,
  title: "cat-r4",
  date: new Date(2026, 4, 3, 2, 1, 0),
  hashes: true,
};
const PARENT = {
  ss_network_module: "networks.dylora",
  ss_network_dim: "16",
  ss_network_alpha: "8.0",
  ss_network_args: '{"unit": "4", "conv_dim": "8", "conv_alpha": "2", "alpha_rule": "paper"}',
  ss_output_name: "cat",
  ss_tag_frequency: '{"a": {"b": 1}}',
  "modelspec.title": "Cat",
  "modelspec.date": "2020-01-01T00:00:00",
  "modelspec.hash_sha256": "0xold",
  sshs_model_hash: "old",
  sshs_legacy_hash: "old",
  my_note: "kept",
};

it("puts right what depends on the rank, and keeps the rest", () => {
  expect(extractedMetadata(PARENT, FACTS)).toEqual({
    ss_network_module: "networks.dylora",
    ss_network_dim: "4",
    ss_network_alpha: "8.0",
    ss_network_args: '{"unit": "4", "conv_dim": "4", "conv_alpha": "2", "alpha_rule": "paper"}',
    ss_output_name: "cat-r4",
    ss_tag_frequency: '{"a": {"b": 1}}',
    "modelspec.title": "cat-r4",
    "modelspec.date": "2026-05-03T02:01:00",
    my_note: "kept",
    dylora_parent_hash: "0".repeat(64),
    dylora_parent_rank: "16",
    dylora_alpha_rule: "paper",
  });
});

it("leaves conv_dim where it is lower than the rank", () => {
  const copy = extractedMetadata(PARENT, {
    ...FACTS,
    rank: 12,
    components: { unet: { rank: 12, alphas: [8] } },
  });
  expect(JSON.parse(copy.ss_network_args!)).toEqual({
    unit: "4",
    conv_dim: "8",
    conv_alpha: "2",
    alpha_rule: "paper",
  });
});

it("follows the alpha rule, for each alpha with its own rank", () => {
  const parent = { ...PARENT, ss_network_args: '{"unit": "4", "conv_dim": "8", "conv_alpha": "2"}' };
  const keep = extractedMetadata(parent, { ...FACTS, alphaRule: "keep" });
  expect(keep.ss_network_alpha).toBe("2.0");
  expect(JSON.parse(keep.ss_network_args!)).toMatchObject({
    conv_dim: "4",
    conv_alpha: "1.0",
    alpha_rule: "keep",
  });
  const sdScripts = extractedMetadata(parent, { ...FACTS, alphaRule: "sd-scripts" });
  expect(sdScripts.ss_network_alpha).toBe("4.0");
  expect(Number(JSON.parse(sdScripts.ss_network_args!).conv_alpha)).toBeCloseTo(2 * Math.SQRT1_2, 14);
});

it("lets a copy be extracted in turn: LyCORIS' unit is in its alpha by then", () => {
  const parent = {
    ss_network_module: "lycoris.kohya",
    ss_network_dim: "16",
    ss_network_alpha: "2.0",
    ss_network_args: '{"algo": "dylora", "block_size": "4"}',
  };
  const copy = extractedMetadata(parent, { ...FACTS, rank: 8, alphaRule: "lycoris" });
  expect(copy).toMatchObject({ ss_network_dim: "8", ss_network_alpha: "8.0", dylora_alpha_rule: "lycoris" });
  expect(readDyloraFacts(copy, 8)).toMatchObject({
    isDylora: true,
    unit: 4,
    alphaRule: "paper",
    alphaRuleSource: "metadata",
  });
});

it("cuts the ranks of blocks", () => {
  const parent = {
    ss_network_module: "networks.lora",
    ss_network_args: '{"block_dims": "2,4,8", "block_alphas": "1,2,4", "conv_block_dims": "8,0,2"}',
  };
  const facts: CopyFacts = { ...FACTS, isDylora: false, alphaRule: "keep" };
  expect(JSON.parse(extractedMetadata(parent, facts).ss_network_args!)).toEqual({
    block_dims: "2,4,4",
    block_alphas: "1.0,2.0,2.0",
    conv_block_dims: "4,0,2",
  });
});

it("of a file without metadata: rank, alpha, and where it came from", () => {
  const origin = { dylora_parent_hash: "0".repeat(64), dylora_parent_rank: "16", dylora_alpha_rule: "paper" };
  const facts: CopyFacts = { ...FACTS, isDylora: false };
  expect(extractedMetadata({}, facts)).toEqual({ ss_network_dim: "4", ss_network_alpha: "8.0", ...origin });
  expect(extractedMetadata({}, { ...facts, alpha: null })).toEqual({ ss_network_dim: "4", ...origin });
});

it("says the rank and alpha of each component where they were chosen, and anew in a copy of such a copy", () => {
  const facts: CopyFacts = {
    ...FACTS,
    rank: 8,
    alpha: null,
    components: { unet: { rank: 8, alphas: [8] }, te: { rank: 4, alphas: [2, 4] } },
    isPerComponent: true,
  };
  const parent = { ...PARENT, ss_network_args: '{"unit": "4", "conv_dim": "12", "alpha_rule": "paper"}' };
  const copy = extractedMetadata(parent, facts);
  expect(copy.ss_network_dim).toBe("8");
  expect(JSON.parse(copy.ss_network_args!)).toEqual({
    unit: "4",
    conv_dim: "8",
    alpha_rule: "paper",
    unet_dim: "8",
    unet_alpha: "8.0",
    te_dim: "4",
  });
  const lower = { unet: { rank: 4, alphas: [3, 8] }, te: { rank: 4, alphas: [8] } };
  const again = extractedMetadata(copy, { ...facts, rank: 4, components: lower, isPerComponent: false });
  expect(again.ss_network_dim).toBe("4");
  expect(JSON.parse(again.ss_network_args!)).toEqual({
    unit: "4",
    conv_dim: "4",
    alpha_rule: "paper",
    unet_dim: "4",
    te_dim: "4",
    te_alpha: "8.0",
  });
});

it("leaves network args alone that it cannot read, and ranks that are none", () => {
  const parent = { ss_network_args: "{broken", ss_network_dim: "None", ss_network_alpha: "None" };
  const copy = extractedMetadata(parent, { ...FACTS, alpha: null });
  expect(copy).toMatchObject({ ss_network_args: "{broken", ss_network_dim: "4", ss_network_alpha: "None" });
});
