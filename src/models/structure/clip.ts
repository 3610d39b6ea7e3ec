/**
 * The modules of the CLIP text transformer, under the names and in the registration order of transformers'
 * `CLIPTextModel`. SD 1.x checkpoints use the same names; OpenCLIP's, which pack q, k and v into one tensor, are in
 * checkpoint/original-names.ts.
 */
import type { ClipTextConfig } from "../config.js";
import { child, embedding, linear, type ModuleName, type ModuleSpec, norm } from "./module-spec.js";

/** Every module with weights, in registration order. */
export function clipModules(config: ClipTextConfig): ModuleSpec[] {
  const width = config.hiddenSize;
  const root = same("text_model");
  const modules = [
    embedding(child(root, "embeddings.token_embedding"), config.vocabSize, width),
    embedding(child(root, "embeddings.position_embedding"), config.maxPositions, width),
  ];
  for (let layer = 0; layer < config.layers; layer++) {
    modules.push(...encoderLayer(child(root, `encoder.layers.${layer}`), config));
  }
  modules.push(norm(child(root, "final_layer_norm"), width));
  return modules;
}

function encoderLayer(name: ModuleName, { hiddenSize, intermediateSize }: ClipTextConfig): ModuleSpec[] {
  const attention = ["k_proj", "v_proj", "q_proj", "out_proj"].map((projection) =>
    linear(child(name, `self_attn.${projection}`), hiddenSize, hiddenSize, { owner: "CLIPAttention" }),
  );
  return [
    ...attention,
    norm(child(name, "layer_norm1"), hiddenSize),
    linear(child(name, "mlp.fc1"), hiddenSize, intermediateSize, { owner: "CLIPMLP" }),
    linear(child(name, "mlp.fc2"), intermediateSize, hiddenSize, { owner: "CLIPMLP" }),
    norm(child(name, "layer_norm2"), hiddenSize),
  ];
}

function same(path: string): ModuleName {
  return { path, originalPath: path };
}
