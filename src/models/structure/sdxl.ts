/**
 * What SDXL has beyond the structures of Stable Diffusion 1.x and 2.x.
 *
 * For names and shapes: adapters of SDXL are read and converted, the model itself is not run.
 */
import { SDXL_TEXT_2, SDXL_UNET } from "../reference-configs.js";
import { clipModules } from "./clip.js";
import { linear, type ModuleSpec } from "./module-spec.js";
import { unetModules } from "./unet.js";

/** The pooled text embedding (1280) and six sizes of 256 sinusoids each. */
const ADDED_EMBEDDING_WIDTH = 1280 + 6 * 256;

/** Every module of SDXL's U-Net; original names are those of Stability AI's code (`input_blocks.4.1.…`). */
export function sdxlUnetModules(): ModuleSpec[] {
  const { timeEmbedDim } = SDXL_UNET;
  const first = { path: "add_embedding.linear_1", originalPath: "label_emb.0.0" };
  const second = { path: "add_embedding.linear_2", originalPath: "label_emb.0.2" };
  return [
    ...unetModules(SDXL_UNET),
    linear(first, ADDED_EMBEDDING_WIDTH, timeEmbedDim),
    linear(second, timeEmbedDim, timeEmbedDim),
  ];
}

/** Every module of SDXL's second text encoder (transformers' `CLIPTextModelWithProjection`). */
export function sdxlTextEncoder2Modules(): ModuleSpec[] {
  const width = SDXL_TEXT_2.hiddenSize;
  const projection = { path: "text_projection", originalPath: "text_projection" };
  return [...clipModules(SDXL_TEXT_2), linear(projection, width, width, { bias: false })];
}
