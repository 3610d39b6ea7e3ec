/** DyLoRA files for the bundled checkpoint, with factors that change its answers. */
import { writeAdapter } from "../../src/adapter/index.js";
import { downWidth, upWidth } from "../../src/denoiser/factors.js";
import { openCheckpoint } from "../../src/models/checkpoint/index.js";
import { loraTargets } from "../../src/models/lora-targets.js";
import { randomStream } from "../../src/random/stream.js";
import { TINY_MODEL } from "./tiny-run.js";

export interface TinyAdapterOptions {
  /** Names of the modules; default: a few of the U-Net and one of the text encoder. */
  readonly wanted?: RegExp;
  readonly rank?: number;
  readonly alpha?: number;
  /** Deviation of the factors. */
  readonly size?: number;
  readonly seed?: number;
  readonly metadata?: Readonly<Record<string, string>>;
}

/** What a run of this project writes into its files. */
export const TINY_ADAPTER_METADATA = {
  ss_network_module: "networks.dylora",
  ss_network_args: JSON.stringify({ unit: "2", alpha_rule: "paper" }),
  ss_resolution: "(16, 16)",
};

const A_FEW = /unet_up_blocks_3_attentions_2_|unet_down_blocks_0_resnets_0_conv1|te_.*layers_0_mlp_fc1/;

export async function writeTinyAdapter(path: string, options: TinyAdapterOptions = {}): Promise<string> {
  const { wanted = A_FEW, rank = 4, alpha = 4, size = 0.1, seed = 1 } = options;
  const { unet, textEncoder } = await openCheckpoint(TINY_MODEL);
  const targets = loraTargets({ unet: unet.config, textEncoder: textEncoder.config }, { convDim: true });
  const modules = targets
    .filter(({ name }) => wanted.test(name))
    .map((target) => {
      const normals = (factor: string, width: number) =>
        randomStream(seed, factor, target.name)
          .fillNormal(new Float32Array(rank * width))
          .map((value) => value * size);
      return {
        ...target,
        rank,
        alpha,
        down: normals("down", downWidth(target)),
        upT: normals("up", upWidth(target)),
      };
    });
  const metadata = options.metadata ?? TINY_ADAPTER_METADATA;
  await writeAdapter(path, modules, { metadata, dtype: "F32", overwrite: true });
  return path;
}
