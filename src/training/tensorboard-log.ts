/** `--logging_dir`: a run's numbers as TensorBoard events, under sd-scripts' tags. */

import { join } from "node:path";
import { EventFile } from "../tensorboard/event-file.js";
import type { TrainConfig } from "./config.js";
import type { StepEvent, TrainEvent, TrainHooks } from "./events.js";

/**
 * Hooks that also write events, where the configuration asks for it.
 *
 * @param fromStep - steps done before: what an earlier part of the run logged behind it is dropped by TensorBoard
 * @throws {DyloraError} `E_WRITE`
 */
export function withTensorBoard(
  hooks: TrainHooks,
  config: Pick<TrainConfig, "loggingDir" | "outputName">,
  fromStep: number,
): { hooks: TrainHooks; close(): void } {
  if (config.loggingDir === null) return { hooks, close: () => undefined };
  const file = new EventFile(join(config.loggingDir, config.outputName), fromStep);
  const epochs = new EpochAverage((epoch, loss) => file.scalars(epoch, { "loss/epoch_average": loss }));
  return {
    hooks: {
      ...hooks,
      onEvent: (event) => {
        const values = scalarsOf(event);
        if (values !== null && "step" in event) file.scalars(event.step, values);
        if (event.type === "step") epochs.add(event);
        if (event.type === "end") epochs.end();
        hooks.onEvent(event);
      },
    },
    close: () => file.close(),
  };
}

/** Mean loss of an epoch's steps, at its end or at the end of the run; sd-scripts counts its x-axis in epochs. */
class EpochAverage {
  readonly #onEpoch: (epoch: number, loss: number) => void;
  #epoch = 0;
  #sum = 0;
  #steps = 0;

  constructor(onEpoch: (epoch: number, loss: number) => void) {
    this.#onEpoch = onEpoch;
  }

  add({ epoch, loss }: StepEvent): void {
    if (epoch !== this.#epoch) this.end();
    this.#epoch = epoch;
    this.#sum += loss;
    this.#steps++;
  }

  end(): void {
    if (this.#steps > 0) this.#onEpoch(this.#epoch, this.#sum / this.#steps);
    this.#sum = 0;
    this.#steps = 0;
  }
}

function scalarsOf(event: TrainEvent): Record<string, number> | null {
  if (event.type === "validation") {
    const { byRank } = event;
    return {
      // sd-scripts' tag; there it is the loss of whatever rank the network draws at that moment.
      "loss/validation/step_average": byRank.reduce((sum, { loss }) => sum + loss, 0) / byRank.length,
      ...Object.fromEntries(byRank.map(({ rank, loss }) => [`loss/validation/rank_${rank}`, loss])),
    };
  }
  if (event.type !== "step") return null;
  const { loss, lossEma, ranks, gradNorm, learningRates, lossScaling } = event;
  return {
    "loss/current": loss,
    // sd-scripts' tag, but smoothed exponentially; its average is over a moving epoch.
    "loss/average": lossEma,
    // With gradient accumulation a step may have drawn several ranks, and its loss belongs to none of them.
    ...(ranks.length === 1 && { [`loss/rank_${ranks[0]}`]: loss }),
    "norm/avg_grad_norm": gradNorm,
    ...(lossScaling !== undefined && {
      "loss_scale/scale": lossScaling.scale,
      "loss_scale/skipped_steps": lossScaling.skippedSteps,
    }),
    ...(learningRates.unet !== undefined && { "lr/unet": learningRates.unet }),
    ...(learningRates.textEncoder !== undefined && { "lr/textencoder": learningRates.textEncoder }),
  };
}
