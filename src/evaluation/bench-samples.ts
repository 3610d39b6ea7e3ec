/** The samples of a comparison, named by everything that their losses depend on. */

import { loadClipTokenizer } from "../data/index.js";
import { requireVae } from "../denoiser/conditioning.js";
import { weightsFingerprint } from "../models/checkpoint/fingerprint.js";
import { sha256OfFile } from "../models/checkpoint/index.js";
import type { BenchSetup } from "./bench-setup.js";
import { imageKey, sampleKey } from "./content-keys.js";
import type { HeldOutSample } from "./held-out.js";
import type { KeyedSample } from "./measurement.js";
import { BAND_COUNT } from "./timestep-bands.js";

/**
 * Adds the keys, and puts the samples into rounds: the first four draws of every image, the next four of every image, and so
 * on.
 */
export async function samplesInRounds(
  { checkpoint, items, size, config }: BenchSetup,
  samples: readonly HeldOutSample[],
  signal: AbortSignal,
): Promise<KeyedSample[][]> {
  const tokenizer = await loadClipTokenizer(checkpoint);
  const vae = await weightsFingerprint(requireVae(checkpoint).weights);
  const imageKeys = new Map<string, string>();
  for (const { key, imagePath, caption, frame } of items) {
    const imageSha256 = (await sha256OfFile(imagePath, { signal })) ?? "";
    const tokens = tokenizer.encode(caption).ids;
    imageKeys.set(key, imageKey({ key, imageSha256, tokens, frame: frame ?? size, vae, seed: config.seed }));
  }
  const rounds: KeyedSample[][] = [];
  for (const sample of samples) {
    const round = Math.floor(sample.draw / BAND_COUNT);
    rounds[round] ??= [];
    rounds[round].push({ ...sample, sampleKey: sampleKey(imageKeys.get(sample.image)!, sample) });
  }
  return rounds;
}
