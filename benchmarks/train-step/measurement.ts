/** Measures configurations, each in a process of its own: peak memory is a property of a process. */

import { fork } from "node:child_process";
import { besideModule } from "../setting.js";
import type { StepConfiguration } from "./configuration.js";
import type { OperatorFigures } from "./operator-profile.js";

export interface StepFigures {
  readonly step: number;
  /** Drawn for this step. */
  readonly rank: number;
  readonly loss: number;
  /** Batch, forward and backward pass, clipping, optimizer. */
  readonly seconds: number;
  /** Forward and backward pass alone, with the transfer of inputs and gradients. */
  readonly modelSeconds: number;
  /** Of all threads. On a machine that does other work, `cpuSeconds / threads` says more than `seconds`. */
  readonly cpuSeconds: number;
  /** End of the step, in seconds since the process began. */
  readonly ended: number;
}

/** Medians are over the warm steps: all but the first. */
export interface Measurement {
  /** Making the session: building and lowering the graph, and onnxruntime's preparations. */
  readonly createSeconds: number;
  readonly createCpuSeconds: number;
  readonly firstStepSeconds: number;
  /** From the start of the process to the end of the first step. */
  readonly startToFirstStepSeconds: number;
  readonly medianSeconds: number;
  readonly medianCpuSeconds: number;
  /** Batch, clipping and optimizer. */
  readonly medianOutsideModelSeconds: number;
  /** Most memory resident at any time. */
  readonly peakBytes: number;
  /** Most memory resident until the session was made. */
  readonly createPeakBytes: number;
  /** Memory resident when the session was made. */
  readonly createdBytes: number;
  /** Most memory resident while training. */
  readonly stepPeakBytes: number;
  /** Part of the memory at the end that is the mapped checkpoint; null where the system does not tell. */
  readonly mappedFileBytes: number | null;
  /** Modules with a LoRA. */
  readonly modules: number;
  readonly steps: readonly StepFigures[];
  /** Null: not profiled. */
  readonly operators: readonly OperatorFigures[] | null;
}

export interface Failure {
  readonly code: string;
  readonly message: string;
}

export type Outcome = { readonly measurement: Measurement } | { readonly failure: Failure };

type Message =
  | { readonly type: "created"; readonly createSeconds: number }
  | { readonly type: "step"; readonly figure: StepFigures }
  | { readonly type: "measurement"; readonly measurement: Measurement }
  | { readonly type: "failure"; readonly failure: Failure };

/** Never throws: a configuration that does not fit into memory is a result too. */
export function measureConfiguration(
  configuration: StepConfiguration,
  onProgress: (text: string) => void,
): Promise<Outcome> {
  return new Promise((resolve) => {
    let outcome: Outcome | null = null;
    const child = fork(besideModule(import.meta.url, "measure"), [JSON.stringify(configuration)]);
    child.on("message", (message: Message) => {
      switch (message.type) {
        case "created":
          onProgress(`session made in ${message.createSeconds.toFixed(1)} s`);
          break;
        case "step": {
          const { step, rank, seconds, cpuSeconds } = message.figure;
          onProgress(
            `step ${step + 1}, rank ${rank}: ${seconds.toFixed(2)} s (${cpuSeconds.toFixed(2)} s of CPU)`,
          );
          break;
        }
        default:
          outcome = message;
      }
    });
    const ended = (how: string) =>
      resolve(outcome ?? { failure: { code: "E_INTERNAL", message: `the process ended early: ${how}` } });
    child.on("error", (error) => ended(error.message));
    child.on("close", (code, signal) => ended(signal === null ? `exit status ${code}` : `signal ${signal}`));
  });
}
