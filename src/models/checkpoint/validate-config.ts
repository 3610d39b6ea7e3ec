/** Checks that sizes hold together, however they were obtained, before anything is built from them. */
import type { ClipTextConfig, UnetConfig, VaeConfig } from "../config.js";
import { incompatible } from "./problem.js";

const NOTE = "The file is damaged or not a Stable Diffusion 1.x or 2.x model. Give an unmodified checkpoint.";

/** @throws {DyloraError} `E_INCOMPATIBLE` if a width cannot be split into its attention heads or norm groups */
export function validateUnetConfig(path: string, config: UnetConfig): void {
  config.blockOutChannels.forEach((width, level) => {
    requireDivisible(path, `U-Net level ${level}`, width, config.normNumGroups, "norm groups");
    // The heads of a level without attention are never used, but the middle block takes those of the last level.
    requireDivisible(
      path,
      `U-Net level ${level}`,
      width,
      config.headsPerLevel[level] ?? 0,
      "attention heads",
    );
  });
}

/** @throws {DyloraError} `E_INCOMPATIBLE` if the width cannot be split into attention heads, or there are no layers */
export function validateClipConfig(path: string, config: ClipTextConfig): void {
  requireDivisible(path, "the text encoder", config.hiddenSize, config.heads, "attention heads");
  if (config.layers < 1) throw incompatible(path, "the text encoder has no layers", NOTE);
}

/** @throws {DyloraError} `E_INCOMPATIBLE` if there are no levels, or a width cannot be split into norm groups */
export function validateVaeConfig(path: string, config: VaeConfig): void {
  if (config.blockOutChannels.length === 0) throw incompatible(path, "the VAE's encoder has no blocks", NOTE);
  config.blockOutChannels.forEach((width, level) => {
    requireDivisible(path, `VAE level ${level}`, width, config.normNumGroups, "norm groups");
  });
}

function requireDivisible(path: string, what: string, width: number, parts: number, partsName: string): void {
  if (Number.isInteger(parts) && parts > 0 && width > 0 && width % parts === 0) return;
  throw incompatible(
    path,
    `${what} has width ${width}, which does not split into ${parts} ${partsName}`,
    NOTE,
  );
}
