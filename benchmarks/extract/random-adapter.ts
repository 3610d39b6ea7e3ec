/** A DyLoRA of SD 1.5 at full size with random factors. */

import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { kohyaTensorNames, NETWORK_ARGS_KEY, writeNetworkArgs } from "../../src/adapter/index.js";
import { type LoraTarget, loraFactorShapes, loraTargets } from "../../src/models/lora-targets.js";
import { SD15_TEXT, SD15_UNET } from "../../src/models/reference-configs.js";
import { randomStream } from "../../src/random/stream.js";
import { encodeFromFloat32, type TensorSource, writeSafetensors } from "../../src/safetensors/index.js";
import { cacheFolder } from "../setting.js";

/** Part of the file's name: raise it when the file is made in another way. */
const RECIPE = 1;

export const SD15_TARGETS = loraTargets({ unet: SD15_UNET, textEncoder: SD15_TEXT });

/** The path of a float16 adapter for all modules of U-Net and text encoder; it is written first where it does not exist. */
export async function fullSizeAdapter(rank: number, unit: number): Promise<string> {
  const folder = join(cacheFolder(), "full-size");
  const path = join(folder, `dylora-sd15-r${rank}-u${unit}-random-${RECIPE}.safetensors`);
  if (existsSync(path)) return path;
  await mkdir(folder, { recursive: true });
  await writeSafetensors(
    path,
    SD15_TARGETS.flatMap((target) => moduleTensors(target, rank)),
    {
      overwrite: true,
      hashes: true,
      metadata: {
        ss_network_module: "dylora",
        ss_network_dim: String(rank),
        ss_network_alpha: "1",
        [NETWORK_ARGS_KEY]: writeNetworkArgs({ unit: String(unit) }),
      },
    },
  );
  return path;
}

function moduleTensors(target: LoraTarget, rank: number): TensorSource[] {
  const names = kohyaTensorNames(target.name);
  const shapes = loraFactorShapes(target, rank);
  const factor = (name: string, shape: readonly number[]): TensorSource => ({
    name,
    dtype: "F16",
    shape,
    data: () => {
      const count = shape.reduce((product, size) => product * size, 1);
      return encodeFromFloat32(randomStream(1, name).fillNormal(new Float32Array(count)), "F16");
    },
  });
  return [
    factor(names.down, shapes.down),
    factor(names.up, shapes.up),
    { name: names.alpha, dtype: "F16", shape: [], data: () => encodeFromFloat32(Float32Array.of(1), "F16") },
  ];
}
