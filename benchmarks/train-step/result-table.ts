/** Results for people. */

import { formatBytes } from "../../src/cli/format.js";
import { renderTable } from "../../src/cli/table.js";
import type { OutputStream } from "../../src/cli/terminal.js";
import type { Setting } from "../setting.js";
import { describe, type StepConfiguration } from "./configuration.js";
import type { Failure, Measurement } from "./measurement.js";
import type { PeerFigures } from "./peer.js";

export type Result = Setting & {
  readonly schemaVersion: 1;
  readonly configuration: StepConfiguration;
  readonly peer?: PeerFigures;
} & (Measurement | { readonly failure: Failure });

export function resultTable(results: readonly Result[], out: OutputStream): string {
  const figure = (text: (result: Result & Measurement) => string) => (result: Result) =>
    "failure" in result ? "failed" : text(result);
  const seconds = (value: number) => value.toFixed(2);
  return renderTable(
    results,
    [
      { title: "configuration", value: ({ configuration }) => describe(configuration) },
      { title: "create s", value: figure(({ createSeconds }) => seconds(createSeconds)), align: "right" },
      {
        title: "to 1st step s",
        value: figure(({ startToFirstStepSeconds }) => seconds(startToFirstStepSeconds)),
        align: "right",
      },
      { title: "step s", value: figure(({ medianSeconds }) => seconds(medianSeconds)), align: "right" },
      { title: "cpu s", value: figure(({ medianCpuSeconds }) => seconds(medianCpuSeconds)), align: "right" },
      {
        title: "outside model",
        value: figure(
          ({ medianOutsideModelSeconds, medianSeconds }) =>
            `${((100 * medianOutsideModelSeconds) / medianSeconds).toFixed(1)} %`,
        ),
        align: "right",
      },
      { title: "peak", value: figure(({ peakBytes }) => formatBytes(peakBytes)), align: "right" },
      {
        title: "peer s",
        value: ({ peer }) => (peer === undefined ? "-" : seconds(peer.medianSeconds)),
        align: "right",
      },
      {
        title: "as fast",
        value: ({ peer }) => (peer === undefined ? "-" : `${seconds(peer.timesAsFast)} x`),
        align: "right",
      },
    ],
    out,
  );
}

/** Time by kind of operator; nothing where no profile was taken. */
export function operatorTable(result: Result, out: OutputStream): string {
  if ("failure" in result || result.operators === null) return "";
  const table = renderTable(
    result.operators,
    [
      { title: "operator", value: ({ operator }) => operator },
      { title: "s a step", value: ({ seconds }) => seconds.toFixed(3), align: "right" },
      { title: "share", value: ({ share }) => `${(100 * share).toFixed(1)} %`, align: "right" },
      { title: "calls", value: ({ calls }) => String(Math.round(calls)), align: "right" },
      {
        title: "GFLOP/s",
        value: ({ gigaflops }) => (gigaflops === null ? "-" : gigaflops.toFixed(0)),
        align: "right",
      },
    ],
    out,
  );
  return `\n${describe(result.configuration)}\n${table}`;
}
