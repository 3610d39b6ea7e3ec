/** Memory that a rank comparison will need. */

import { CLIP_TOKENS, type ImageSize } from "../data/index.js";
import { requireVae } from "../denoiser/conditioning.js";
import type { Denoiser } from "../denoiser/denoiser.js";
import { downWidth, upWidth } from "../denoiser/factors.js";
import {
  denoiserMemory,
  latentEncoderMemory,
  latentSize,
  textEncoderMemory,
} from "../denoiser/session-memory.js";
import { estimateRunBytes } from "../runtime/memory-estimate.js";
import type { BenchSetup } from "./bench-setup.js";

const FLOAT_BYTES = 4;

/** What the process holds when images are decoded, as in training (training/estimate.ts). */
const PREPARED_PROCESS_BYTES = 154e6;

const area = ({ width, height }: ImageSize) => width * height;

/** Peak of resident memory, in bytes; images, captions and the denoiser have their sessions one after the other. */
export function estimateBenchBytes(setup: BenchSetup, denoiser: Denoiser): number {
  const { checkpoint, adapters, clipSkip, items, config } = setup;
  const size = setup.buckets.reduce<ImageSize>(
    (a, b) => (area(b) > area(a) ? b : a),
    setup.buckets[0] ?? setup.size,
  );
  const latents = latentSize(checkpoint, size);
  const rankOf = new Map<string, number>();
  let parameters = 0;
  for (const { loaded } of adapters) {
    for (const { factors, rank } of loaded.activate(loaded.maxRank)) {
      const { target } = factors;
      rankOf.set(target.name, Math.max(rank, rankOf.get(target.name) ?? 1));
      parameters += rank * (downWidth(target) + upWidth(target));
    }
  }
  const text = denoiser.includesTextEncoder
    ? []
    : [[textEncoderMemory(checkpoint, { device: denoiser.options.device, clipSkip })]];
  const moments = 2 * requireVae(checkpoint).config.latentChannels * latents.height * latents.width;
  const states = CLIP_TOKENS * checkpoint.textEncoder.config.hiddenSize;
  const { totalBytes } = estimateRunBytes({
    phases: [
      [latentEncoderMemory(checkpoint, denoiser.options, size)],
      ...text,
      [denoiserMemory("loss", denoiser, { purpose: "loss", batchSize: config.batchSize, latents, rankOf })],
    ],
    hostBytes: PREPARED_PROCESS_BYTES + FLOAT_BYTES * (parameters + items.length * (moments + states)),
  });
  return totalBytes;
}
