/** What a run was started with. */

import { formatBytes, formatCount, formatPercent, formatQuantity } from "../../format.js";
import { type Html, html } from "../html.js";
import { dataTable, factList } from "../table.js";
import type { LoggedStart, RunLog } from "./run-log.js";

export function runSettings(start: LoggedStart): Html {
  const { network, data, baseModel, config } = start;
  const facts = factList([
    ["Base model", `${baseModel.path} (${baseModel.version}, ${baseModel.predictionType} prediction)`],
    [
      "Network",
      network.module === "lora"
        ? `LoRA, rank ${network.maxRank}, alpha ${network.alpha}`
        : `DyLoRA, ranks ${network.ranks.join(", ")}, alpha ${network.alpha}, update mode ${network.updateMode}`,
    ],
    [
      "Trained",
      `${formatQuantity(network.trainableParameters, "parameter")} (${formatPercent(network.trainablePercent)}) in ${formatCount(network.unetModules)} U-Net and ${formatQuantity(network.textEncoderModules, "text encoder module")}`,
    ],
    [
      "Images",
      `${formatCount(data.imageCount)} in ${config.trainDataDir}, ${formatQuantity(data.samplesPerEpoch, "sample")} an epoch, ${formatCount(data.validationImageCount)} held out`,
    ],
    ["Size", `${data.width}x${data.height} px`],
    [
      "Steps",
      `${formatCount(start.totalSteps)} (${formatQuantity(start.totalEpochs, "epoch")}), batch ${start.batchSize}${start.gradientAccumulationSteps > 1 ? ` x ${start.gradientAccumulationSteps} micro-steps` : ""}`,
    ],
    ["Optimizer", [config.optimizerType, ...config.optimizerArgs].join(" ")],
    ["Learning rate", `${config.learningRate}, ${config.lrScheduler}`],
    ["Seed", start.seed],
    ["Device", `${start.device} (${start.provider}), ${start.dtype}, ${start.executionMode} mode`],
    ["Memory", `about ${formatBytes(start.estimatedPeakBytes)} at the peak, estimated before the first step`],
    ["Output", `${start.outputDir}, name ${config.outputName}`],
  ]);
  return html`${facts}<details><summary>Every option</summary>
${dataTable({
  id: "options",
  caption: "As the run was configured, defaults filled in.",
  columns: [{ title: "Option" }, { title: "Value" }],
  rows: Object.entries(config).map(([name, value]) => ({ cells: [optionName(name), optionText(value)] })),
})}</details>
`;
}

/** `maxTrainSteps` to `max_train_steps`, as it is typed. */
function optionName(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function optionText(value: unknown): string {
  if (value === null) return "–";
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** Only a run that was stopped in between has more than one start. */
export function startTable({ starts }: RunLog): Html | null {
  if (starts.length < 2) return null;
  return dataTable({
    id: "starts",
    caption: "The run was stopped and went on.",
    columns: [
      { title: "From step", numeric: true },
      { title: "Date" },
      { title: "Device" },
      { title: "To step", numeric: true },
    ],
    rows: starts.map(({ step, startedAt, device, totalSteps }) => ({
      cells: [formatCount(step + 1), startedAt, device, formatCount(totalSteps)],
    })),
  });
}
