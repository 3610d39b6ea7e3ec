/** A VAE given apart from the checkpoint (`--vae`): a file with original or diffusers names, or a diffusers folder. */
import { join } from "node:path";
import type { VaeConfig } from "../config.js";
import { diffusersVaePart, diffusersVaeWeights } from "./diffusers-folder.js";
import { inferVaeConfig } from "./infer-config.js";
import { VAE_PREFIX } from "./original-names.js";
import { isFolder } from "./paths.js";
import { incompatible, nameSome } from "./problem.js";
import { vaePart } from "./single-file.js";
import { readTensorFile } from "./tensor-index.js";
import type { ModelPart } from "./types.js";

/**
 * Opens a VAE: the folder of an `AutoencoderKL` or of a whole diffusers model, a VAE file, or a whole single-file
 * checkpoint whose VAE is taken.
 *
 * @throws {DyloraError} `E_NOT_FOUND`, or `E_INCOMPATIBLE` if there is no Stable Diffusion VAE in it
 */
export async function openVae(path: string): Promise<ModelPart<VaeConfig>> {
  if (await isFolder(path)) return diffusersVaePart(path, (await isFolder(join(path, "vae"))) ? "vae" : "");
  const { tensors } = await readTensorFile(path);
  if (tensors.has(`${VAE_PREFIX}encoder.conv_in.weight`)) return vaePart(path, tensors, VAE_PREFIX);
  if (tensors.has("encoder.down.0.block.0.conv1.weight")) return vaePart(path, tensors, "");
  if (tensors.has("encoder.down_blocks.0.resnets.0.conv1.weight")) {
    const config = inferVaeConfig(path, (name) => tensors.get(name)?.info.shape, "diffusers");
    return diffusersVaeWeights(path, tensors, config, "the sizes of the other tensors");
  }
  throw incompatible(
    path,
    `no VAE in it: expected tensors named encoder.* or ${VAE_PREFIX}encoder.*, found ${nameSome([...tensors.keys()])}`,
    "Give a Stable Diffusion VAE as .safetensors file or diffusers folder, or leave the option out.",
  );
}
