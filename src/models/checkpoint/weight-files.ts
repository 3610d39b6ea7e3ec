/** Finding the weights of one folder of a diffusers model: plain, sharded, or a variant such as fp16. */
import { join } from "node:path";
import { ConfigFile } from "./config-file.js";
import { pickleError } from "./file-kind.js";
import { listFolder } from "./paths.js";
import { incompatible } from "./problem.js";
import { type FileTensor, readTensorFile, type TensorIndex } from "./tensor-index.js";

/** Variants in order of preference: the plain file has the full precision. */
const VARIANTS = ["", "fp16", "bf16", "non_ema"] as const;

/**
 * The tensors of a part's folder.
 *
 * @param root - checkpoint folder, for messages
 * @param folder - the part's folder inside it
 * @param stem - `diffusion_pytorch_model` (U-Net, VAE) or `model` (text encoder)
 * @throws {DyloraError} `E_INCOMPATIBLE` if there are no weights, or only pickled ones
 */
export async function readFolderTensors(root: string, folder: string, stem: string): Promise<TensorIndex> {
  const folderPath = join(root, folder);
  const files = await listFolder(folderPath);
  for (const variant of VARIANTS) {
    const suffix = variant === "" ? "" : `.${variant}`;
    const single = `${stem}${suffix}.safetensors`;
    if (files.includes(single)) return (await readTensorFile(join(folderPath, single))).tensors;
    const index = `${stem}.safetensors.index${suffix}.json`;
    if (files.includes(index)) return readShards(root, folder, index);
  }
  const pickled = files.find((file) => /\.(bin|ckpt|pt|pth)$/.test(file));
  if (pickled !== undefined) throw pickleError(join(folderPath, pickled));
  throw incompatible(
    root,
    `no weights: expected ${join(folder, `${stem}.safetensors`)}`,
    "Get the checkpoint again with its .safetensors files.",
  );
}

/** Reads the shards that an index names and picks the tensors that it assigns to each. */
async function readShards(root: string, folder: string, indexName: string): Promise<TensorIndex> {
  const index = await ConfigFile.read(root, `${folder}/${indexName}`, join(root, folder, indexName));
  const weightMap = index.fields.weight_map;
  if (typeof weightMap !== "object" || weightMap === null) throw index.wrong("weight_map", "an object");
  const entries = Object.entries(weightMap as Record<string, unknown>);
  const shards = new Map<string, TensorIndex>();
  const tensors = new Map<string, FileTensor>();
  for (const [name, shard] of entries) {
    // A name with a folder in it could point anywhere on the disk.
    if (typeof shard !== "string" || /[/\\]/.test(shard) || !shard.endsWith(".safetensors")) {
      throw index.wrong("weight_map", `names of .safetensors files beside it (${name} has another)`);
    }
    let shardTensors = shards.get(shard);
    if (shardTensors === undefined) {
      shardTensors = (await readTensorFile(join(root, folder, shard))).tensors;
      shards.set(shard, shardTensors);
    }
    const tensor = shardTensors.get(name);
    if (tensor === undefined) {
      throw incompatible(
        root,
        `${folder}/${indexName} promises tensor ${name} in ${shard}, which does not have it`,
        "The shards do not belong together. Get the checkpoint again.",
      );
    }
    tensors.set(name, tensor);
  }
  return tensors;
}
