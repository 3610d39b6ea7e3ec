/** The golden checkpoints (see their README): both layouts must be the same model, and their LoRA must fit it. */
import { existsSync } from "node:fs";
import { open } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { SafetensorsFile } from "../../safetensors/index.js";
import { checkAdapterFitsBase } from "../base-match.js";
import { loraFactorShapes, loraTargets } from "../lora-targets.js";
import { openCheckpoint } from "./index.js";
import type { ModelPart, WeightRef } from "./types.js";

const GOLDEN = fileURLToPath(new URL("../../../../shared/golden/", import.meta.url));

async function readWeight({ filePath, offsetBytes, sizeBytes }: WeightRef): Promise<Buffer> {
  const file = await open(filePath, "r");
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(sizeBytes), 0, sizeBytes, offsetBytes);
    expect(bytesRead).toBe(sizeBytes);
    return buffer;
  } finally {
    await file.close();
  }
}

async function expectSamePart<C>(single: ModelPart<C>, folder: ModelPart<C>): Promise<void> {
  expect(single.config).toEqual(folder.config);
  expect([...single.weights.keys()]).toEqual([...folder.weights.keys()]);
  for (const [name, ref] of single.weights) {
    const other = folder.weights.get(name)!;
    expect({ shape: ref.shape, dtype: ref.dtype, sizeBytes: ref.sizeBytes }, name).toEqual({
      shape: other.shape,
      dtype: other.dtype,
      sizeBytes: other.sizeBytes,
    });
    const [bytes, otherBytes] = await Promise.all([readWeight(ref), readWeight(other)]);
    expect(bytes.equals(otherBytes), name).toBe(true);
  }
}

describe.each(["sd1", "sd2"] as const)("golden %s", (version) => {
  const folder = `${GOLDEN}${version}-tiny`;
  const single = `${folder}/single-file.safetensors`;

  describe.skipIf(!existsSync(folder))("checkpoint", () => {
    test("single file and diffusers folder are the same model, byte for byte", async () => {
      const fromFile = await openCheckpoint(single);
      const fromFolder = await openCheckpoint(folder);
      expect(fromFile).toMatchObject({ layout: "single-file", version, tokenizerDir: null });
      expect(fromFolder).toMatchObject({ layout: "diffusers", version, tokenizerDir: null, vae: null });
      await expectSamePart(fromFile.unet, fromFolder.unet);
      await expectSamePart(fromFile.textEncoder, fromFolder.textEncoder);
    });

    test("sizes", async () => {
      const { unet, textEncoder, vae, baseModelVersion } = await openCheckpoint(single);
      expect(unet.config).toMatchObject({
        blockOutChannels: version === "sd1" ? [32, 32, 64, 64] : [64, 64, 128, 128],
        layersPerBlock: [2, 2, 2, 2],
        downTransformerDepth: [1, 1, 1, 0],
        upTransformerDepth: [1, 1, 1, 0],
        midTransformerDepth: 1,
        headsPerLevel: version === "sd1" ? [8, 8, 8, 8] : [1, 1, 2, 2],
        useLinearProjection: version === "sd2",
        crossAttentionDim: 64,
      });
      expect(textEncoder.config).toMatchObject({
        layers: version === "sd1" ? 2 : 3,
        activation: version === "sd1" ? "quick_gelu" : "gelu",
        heads: 1,
      });
      expect(vae?.config).toMatchObject({ blockOutChannels: [32, 64], layersPerBlock: 1, latentChannels: 4 });
      expect(vae?.weights.get("decoder.mid_block.attentions.0.to_q.weight")?.shape).toEqual([64, 64]);
      expect(baseModelVersion).toBe(version === "sd1" ? "sd_v1" : "sd_v2");
    });

    test("the LoRA file has exactly the computed targets, with their shapes", async () => {
      const { unet, textEncoder } = await openCheckpoint(single);
      const models = { unet: unet.config, textEncoder: textEncoder.config };
      const targets = loraTargets(models, { convDim: true });
      await using file = await SafetensorsFile.open(`${folder}/lora.safetensors`);
      const { tensors, metadata } = file.header;
      const rank = Number(metadata?.ss_network_dim);
      const shape = (name: string) => tensors.get(name)?.shape;
      const found = [...tensors.keys()]
        .filter((name) => name.endsWith(".alpha"))
        .map((name) => name.slice(0, -6));
      expect(new Set(targets.map(({ name }) => name))).toEqual(new Set(found));
      expect(tensors.size).toBe(3 * targets.length);
      for (const target of targets) {
        const { down, up } = loraFactorShapes(target, rank);
        expect(shape(`${target.name}.lora_down.weight`), target.name).toEqual(down);
        expect(shape(`${target.name}.lora_up.weight`), target.name).toEqual(up);
      }
      const modules = found.map((name) => ({
        name,
        down: { shape: shape(`${name}.lora_down.weight`)! },
        up: { shape: shape(`${name}.lora_up.weight`)! },
      }));
      expect(checkAdapterFitsBase(targets, modules).untouched).toEqual([]);
    });
  });
});
