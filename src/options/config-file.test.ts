import path from "node:path";
import { describe, expect, test } from "vitest";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { readConfigFile } from "./config-file.js";
import type { OptionTable } from "./option-spec.js";
import type { ForeignOptions } from "./read-options.js";

const table = {
  network_dim: { type: "integer", default: 4, min: 1, group: "g", description: "d" },
  network_args: { type: "list", default: [], group: "g", description: "d" },
  flip_aug: { type: "boolean", default: false, group: "g", description: "d" },
  output_name: { type: "text", default: "last", group: "g", description: "d" },
  optimizer_type: {
    type: "enum",
    default: "AdamW",
    values: ["AdamW"],
    refused: { AdamW8bit: "Use AdamW." },
    group: "g",
    description: "d",
  },
} as const satisfies OptionTable;

const foreign: ForeignOptions = {
  xformers: { answer: "ignored", takes: "nothing", reason: "attention is computed another way." },
  color_aug: { answer: "refused", takes: "nothing", reason: "Leave it out." },
  loss_type: { answer: "refused", takes: "value", reason: "Leave it out.", harmless: ["l2"] },
};

async function read(toml: string) {
  const folder = await tempFolder({ "cat.toml": toml });
  return readConfigFile({ command: "train", table, foreign }, path.join(folder, "cat.toml"));
}

describe("what is read", () => {
  test("sections are flattened, both spellings of a key are taken, lists are values", async () => {
    const { values, notes } = await read(`
      output_name = "cat" # a comment
      [network]
      network-dim = 16
      network_args = ["unit=4", "conv_dim=8"]
      [network.more]
      flip_aug = true
    `);
    expect(values).toEqual({
      outputName: "cat",
      networkDim: 16,
      networkArgs: ["unit=4", "conv_dim=8"],
      flipAug: true,
    });
    expect(notes).toEqual([]);
  });

  test("the suffix .toml may be left out", async () => {
    const folder = await tempFolder({ "cat.toml": "network_dim = 8" });
    const { values } = await readConfigFile({ command: "train", table }, path.join(folder, "cat"));
    expect(values).toEqual({ networkDim: 8 });
  });

  test("an ignored option leaves a note, one that is switched off or at its default leaves none", async () => {
    const { values, notes } = await read('xformers = true\ncolor_aug = false\nloss_type = "l2"');
    expect(values).toEqual({});
    expect(notes).toEqual(["xformers (cat.toml, line 1) is ignored: attention is computed another way."]);
  });
});

describe("what is refused", () => {
  test.each([
    [
      "network_dimm = 8",
      "E_CONFIG",
      "train: unknown key network_dimm (cat.toml, line 1)",
      "Did you mean network_dim?",
    ],
    [
      "zzzzzzz = 8",
      "E_CONFIG",
      "train: unknown key zzzzzzz (cat.toml, line 1)",
      "`dylora train --help` lists every option.",
    ],
    [
      '\n[a]\nnetwork_dim = "8"',
      "E_CONFIG",
      'train: network_dim (cat.toml, line 3) expects a whole number of at least 1, found "8"',
      "Nothing was started.",
    ],
    [
      "network_dim = [8]",
      "E_CONFIG",
      "train: network_dim (cat.toml, line 1) expects a whole number of at least 1, found the list [8]",
      "Nothing was started.",
    ],
    [
      "network_args = 'unit=4'",
      "E_CONFIG",
      'train: network_args (cat.toml, line 1) expects a list of texts such as ["key=value"], found "unit=4"',
      "Nothing was started.",
    ],
    [
      "optimizer_type = 'AdamW8bit'",
      "E_CONFIG",
      "train: optimizer_type (cat.toml, line 1) AdamW8bit is not available",
      "Use AdamW.",
    ],
    ["color_aug = true", "E_CONFIG", "train: color_aug (cat.toml, line 1) is not available", "Leave it out."],
    [
      "[a]\nnetwork_dim = 4\n[b]\nnetwork-dim = 8",
      "E_CONFIG",
      "train: key network_dim is given twice (cat.toml, line 4)",
      "Sections only group keys, so a key may stand in one of them only.",
    ],
  ])("%j", async (toml, code, message, note) => {
    await expect(read(toml)).rejects.toMatchObject({ code, message, note });
  });

  test("a list of tables is not taken for an option", async () => {
    await expect(read("[[datasets]]\nresolution = 512")).rejects.toMatchObject({
      code: "E_CONFIG",
      message: "train: [[datasets]] in cat.toml is a list of tables, not an option",
    });
  });

  test("bad TOML is shown with its place", async () => {
    const error = await read("network_dim = \n").catch((thrown) => thrown);
    expect(error).toMatchObject({ code: "E_CONFIG" });
    expect(error.message).toMatch(/cat\.toml is not valid TOML: .* \(line 1, column 15\)$/);
    expect(error.note).toContain("network_dim =");
  });

  test("a missing file is named with both names that were tried", async () => {
    await expect(readConfigFile({ command: "train", table }, "/no/such/file")).rejects.toMatchObject({
      code: "E_NOT_FOUND",
      message: "train: there is no config file /no/such/file or /no/such/file.toml",
    });
  });

  test("a folder is not a config file", async () => {
    const folder = await tempFolder();
    await expect(readConfigFile({ command: "train", table }, folder)).rejects.toMatchObject({
      code: "E_READ",
    });
  });
});
