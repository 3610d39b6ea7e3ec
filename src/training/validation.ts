/** The loss on held-out images in the course of a run. */

import { moduleRank } from "../dylora/index.js";
import type { PreparedRun } from "./prepare.js";
import { activate } from "./trained-module.js";

/** Whether a run validates after a step: at its end in any case. */
export function shouldValidate(
  { heldOut, config, totalSteps }: Pick<PreparedRun, "heldOut" | "config" | "totalSteps">,
  step: number,
  epochsEnded: readonly number[],
): boolean {
  if (heldOut === null) return false;
  const { validateEveryNSteps, validateEveryNEpochs } = config;
  if (step === totalSteps) return true;
  if (validateEveryNSteps !== null && step % validateEveryNSteps === 0) return true;
  const everyEpochs = validateEveryNEpochs ?? (validateEveryNSteps === null ? 1 : null);
  return everyEpochs !== null && epochsEnded.some((epoch) => epoch % everyEpochs === 0);
}

/**
 * The mean loss at every rank that is trained, on the same noises each time.
 *
 * @returns null where `signal` asked to stop before it was done
 * @throws {DyloraError} `E_DIVERGED` when a loss is not finite
 */
export async function validate(
  { heldOut, denoiser, plan, modules }: PreparedRun,
  signal: AbortSignal,
): Promise<{ rank: number; loss: number }[] | null> {
  if (heldOut === null) return [];
  const byRank: { rank: number; loss: number }[] = [];
  for (const rank of plan.ranks) {
    const active = modules.map(({ factors }) => activate(factors, moduleRank(plan, factors.maxRank, rank)));
    const losses = await heldOut.losses(denoiser, active, { signal }).catch((error: unknown) => {
      if (signal.aborted && error === signal.reason) return null;
      throw error;
    });
    if (losses === null) return null;
    byRank.push({ rank, loss: losses.reduce((total, loss) => total + loss, 0) / losses.length });
  }
  return byRank;
}
