/** CLIP's text transformer (Radford et al. 2021, arXiv:2103.00020) as a graph, under transformers' names. */

import { gelu, quickGelu } from "../graph/ops/activation.js";
import { attention } from "../graph/ops/attention.js";
import { add } from "../graph/ops/elementwise.js";
import { reshape, slice } from "../graph/ops/shape.js";
import { fixedShape, type Tensor } from "../graph/tensor.js";
import type { ClipTextConfig } from "./config.js";
import type { Layers } from "./layers.js";

/**
 * Hidden states of a prompt.
 *
 * @param tokens - CLIP token ids, int64 `[N, T]`
 * @param clipSkip - 1: output of the last layer; 2: of the last but one, and so on; the final normalization follows in
 * every case, as in sd-scripts. The layers behind are not built.
 * @returns `[N * T, hiddenSize]`
 */
export function buildTextEncoder(
  layers: Layers,
  config: ClipTextConfig,
  tokens: Tensor,
  clipSkip = 1,
): Tensor {
  const { graph } = layers;
  const [batch, length] = fixedShape(tokens.shape) as [number, number];
  const { hiddenSize, heads, layerNormEps } = config;
  const activation = config.activation === "quick_gelu" ? quickGelu : gelu;
  const sizes = { batch, queries: length, keys: length, heads, headDim: hiddenSize / heads, causal: true };

  const embedded = layers.embedding("text_model.embeddings.token_embedding", tokens);
  const positions = slice(
    graph,
    layers.weight("text_model.embeddings.position_embedding.weight"),
    0,
    0,
    length,
  );
  let x = add(graph, embedded, positions);
  x = reshape(graph, x, [batch * length, hiddenSize]);

  for (let layer = 0; layer < config.layers - (clipSkip - 1); layer++) {
    const path = `text_model.encoder.layers.${layer}`;
    const normalized = layers.layerNorm(`${path}.layer_norm1`, x, layerNormEps);
    const q = layers.linear(`${path}.self_attn.q_proj`, normalized);
    const k = layers.linear(`${path}.self_attn.k_proj`, normalized);
    const v = layers.linear(`${path}.self_attn.v_proj`, normalized);
    const attended = attention(graph, q, k, v, sizes);
    x = add(graph, x, layers.linear(`${path}.self_attn.out_proj`, attended));
    const hidden = layers.linear(`${path}.mlp.fc1`, layers.layerNorm(`${path}.layer_norm2`, x, layerNormEps));
    x = add(graph, x, layers.linear(`${path}.mlp.fc2`, activation(graph, hidden)));
  }
  return layers.layerNorm("text_model.final_layer_norm", x, layerNormEps, "float32");
}
