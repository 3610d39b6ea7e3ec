import { existsSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { GOLDEN, TINY_MODEL } from "../../test/helpers/tiny-run.js";
import { writeAdapter } from "../adapter/index.js";
import type { BranchFactors } from "../denoiser/factors.js";
import { openCheckpoint } from "../models/checkpoint/index.js";
import { type LoraTarget, loraTargets } from "../models/lora-targets.js";
import { loadNetwork, sizesFromWeights } from "./load-network.js";
import { freshNetwork, type NetworkSizes } from "./network.js";

const SEED = 3;
const LINEAR = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q";
const CONV = "lora_unet_down_blocks_0_resnets_0_conv1";
const TEXT = "lora_te_text_model_encoder_layers_0_mlp_fc1";

let all: readonly LoraTarget[];
let folder: string;
let files = 0;

beforeAll(async () => {
  const checkpoint = await openCheckpoint(TINY_MODEL);
  const configs = { unet: checkpoint.unet.config, textEncoder: checkpoint.textEncoder.config };
  all = loraTargets(configs, { convDim: true });
  folder = await tempFolder();
});

const pick = (...names: string[]) => all.filter(({ name }) => names.includes(name));

/** A trained-looking network: `up` is not zero. */
function trained(targets: readonly LoraTarget[], sizes: NetworkSizes): BranchFactors[] {
  return freshNetwork(targets, sizes, 99).map((module) => ({
    ...module,
    up: module.up.map((_, index) => 1 + (index % 7)),
  }));
}

async function write(network: readonly BranchFactors[]): Promise<string> {
  const path = join(folder, `${files++}.safetensors`);
  const modules = network.map(({ target, maxRank: rank, alpha, down, up }) => ({
    name: target.name,
    kind: target.kind,
    rank,
    alpha,
    inFeatures: target.inFeatures,
    outFeatures: target.outFeatures,
    down,
    upT: up,
  }));
  await writeAdapter(path, modules, { metadata: {}, dtype: "F32" });
  return path;
}

const rank = (n: number, alpha = n): NetworkSizes => ({ rank: n, alpha, convRank: null, convAlpha: null });
const load = (path: string, targets: readonly LoraTarget[], sizes: NetworkSizes) =>
  loadNetwork(path, targets, all, sizes, SEED);

describe("loadNetwork", () => {
  test("a file of the same rank and alpha gives its own factors", async () => {
    const targets = pick(LINEAR, TEXT);
    const network = trained(targets, rank(4));
    expect(await load(await write(network), targets, rank(4))).toEqual(network);
  });

  test("a lower rank fills the first components; the others are those of a fresh adapter", async () => {
    const targets = pick(LINEAR);
    const small = trained(targets, rank(2));
    const [module] = await load(await write(small), targets, rank(4, 2));
    const [fresh] = freshNetwork(targets, rank(4, 2), SEED);
    const downSize = small[0]!.down.length;
    expect(module!.down.subarray(0, downSize)).toEqual(small[0]!.down);
    expect(module!.down.subarray(downSize)).toEqual(fresh!.down.subarray(downSize));
    expect(module!.up.subarray(0, small[0]!.up.length)).toEqual(small[0]!.up);
    expect(module!.up.subarray(small[0]!.up.length).every((value) => value === 0)).toBe(true);
  });

  test("another alpha goes into up, so that the function stays", async () => {
    const targets = pick(LINEAR);
    const network = trained(targets, rank(4, 8));
    const [module] = await load(await write(network), targets, rank(4, 2));
    expect(module!.alpha).toBe(2);
    expect(module!.down).toEqual(network[0]!.down);
    expect(module!.up).toEqual(network[0]!.up.map((value) => value * 4));
  });

  test("3x3 convolutions have a rank of their own", async () => {
    const targets = pick(LINEAR, CONV);
    const sizes = { rank: 4, alpha: 4, convRank: 2, convAlpha: 1 };
    const network = trained(targets, sizes);
    expect(await load(await write(network), targets, sizes)).toEqual(network);
  });

  test.each([
    ["a higher rank", [LINEAR], [LINEAR], rank(8), "E_RANK", `${LINEAR} of`, "--network_dim 8"],
    [
      "a higher rank of a convolution",
      [LINEAR, CONV],
      [LINEAR, CONV],
      { rank: 4, alpha: 4, convRank: 6, convAlpha: 1 },
      "E_RANK",
      `${CONV} of`,
      "conv_dim=6 in --network_args",
    ],
    [
      "a text encoder that is not trained",
      [LINEAR, TEXT],
      [LINEAR],
      rank(4),
      "E_INCOMPATIBLE",
      `has ${TEXT}`,
      "Leave out --network_train_unet_only",
    ],
    [
      "convolutions that are not trained",
      [LINEAR, CONV],
      [LINEAR],
      rank(3),
      "E_INCOMPATIBLE",
      `has ${CONV}`,
      "Add conv_dim=3",
    ],
    [
      "a U-Net that is not trained",
      [LINEAR, TEXT],
      [TEXT],
      rank(4),
      "E_INCOMPATIBLE",
      `has ${LINEAR}`,
      "Leave out --network_train_text_encoder_only",
    ],
    [
      "no text encoder",
      [LINEAR],
      [LINEAR, TEXT],
      rank(4),
      "E_INCOMPATIBLE",
      `has no ${TEXT}`,
      "Add --network_train_unet_only",
    ],
    [
      "no convolutions",
      [LINEAR],
      [LINEAR, CONV],
      rank(4),
      "E_INCOMPATIBLE",
      `has no ${CONV}`,
      "Leave conv_dim out",
    ],
  ] as const)(
    "%s: names the module and the option to change",
    async (_, inFile, inRun, sizes, code, message, note) => {
      const path = await write(trained(pick(...inFile), sizes));
      await expect(load(path, pick(...inRun), rank(4))).rejects.toMatchObject({
        code,
        message: expect.stringContaining(message),
        note: expect.stringContaining(note),
      });
    },
  );

  test.skipIf(!existsSync(GOLDEN))("the adapter of another base model", async () => {
    await expect(load(join(GOLDEN, "sd2-tiny/lora.safetensors"), all, rank(4))).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
      message: expect.stringContaining("do not fit"),
    });
  });
});

describe("sizesFromWeights", () => {
  test("takes rank and alpha of both kinds", async () => {
    const sizes = { rank: 6, alpha: 3, convRank: 2, convAlpha: 0.5 };
    const path = await write(trained(pick(LINEAR, CONV, TEXT), sizes));
    expect(await sizesFromWeights(path)).toEqual(sizes);
    expect(await sizesFromWeights(await write(trained(pick(LINEAR), rank(4))))).toEqual(rank(4));
  });

  test("refuses ranks that differ, with both modules", async () => {
    const network = [...trained(pick(LINEAR), rank(4)), ...trained(pick(TEXT), rank(2))];
    await expect(sizesFromWeights(await write(network))).rejects.toMatchObject({
      code: "E_INCOMPATIBLE",
      message: expect.stringMatching(
        new RegExp(`(${LINEAR}|${TEXT}) has rank \\d and alpha \\d, (${LINEAR}|${TEXT})`),
      ),
    });
  });

  test("refuses a file of convolutions alone", async () => {
    const path = await write(trained(pick(CONV), { ...rank(4), convRank: 2, convAlpha: 1 }));
    await expect(sizesFromWeights(path)).rejects.toMatchObject({ code: "E_INCOMPATIBLE" });
  });
});
