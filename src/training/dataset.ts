/** The images of a run: scanned, checked, split. */

import {
  assignBuckets,
  type Dataset,
  dropUnreadable,
  probeImages,
  scanEvaluationDir,
  scanTrainDataDir,
  splitValidation,
} from "../data/index.js";
import { DyloraError } from "../errors.js";
import { bucketRulesOf, type TrainConfig } from "./config.js";

export interface RunData {
  readonly train: Dataset;
  /** Empty without validation. */
  readonly validation: Dataset;
  readonly warnings: readonly string[];
}

/**
 * @throws {DyloraError} `E_DATA` for folders without usable images, `E_NOT_FOUND`, `E_READ`
 */
export async function loadRunData(
  config: TrainConfig,
  options: { signal: AbortSignal; onProgress: (done: number, total: number) => void },
): Promise<RunData> {
  const { captionExtension } = config;
  const rules = bucketRulesOf(config);
  const usableOf = async (scanned: Dataset) => {
    const probed = await probeImages(scanned.items, options);
    const readable = dropUnreadable(scanned, probed);
    return rules === null ? readable : assignBuckets(readable, probed.readable, rules);
  };
  const usable = await usableOf(await scanTrainDataDir(config.trainDataDir, { captionExtension }));
  if (config.validationDir !== null) {
    const heldOut = await scanEvaluationDir(config.validationDir, {
      captionExtension,
      optionName: "--validation_dir",
    });
    const validation = await usableOf(heldOut);
    refuseOverlap(usable, validation, config.validationDir);
    return { train: usable, validation, warnings: [...usable.warnings, ...validation.warnings] };
  }
  const seed = config.validationSeed ?? config.seed ?? 0;
  const { train, validation } = splitValidation(usable, config.validationSplit, seed);
  return { train, validation, warnings: usable.warnings };
}

/** A validation folder inside the training folder would measure what was trained on. */
function refuseOverlap(train: Dataset, validation: Dataset, dir: string): void {
  const trained = new Set(train.items.map(({ imagePath }) => imagePath));
  const shared = validation.items.find(({ imagePath }) => trained.has(imagePath));
  if (shared === undefined) return;
  throw new DyloraError("E_DATA", `--validation_dir ${dir}: ${shared.imagePath} is trained on, too`, {
    note: "Held-out images must not be trained on: move them to a folder of their own, or use --validation_split.",
  });
}
