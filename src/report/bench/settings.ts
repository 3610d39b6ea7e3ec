/** What a comparison was made with, and what the compared files are. */

import { basename } from "node:path";
import type { BenchReport } from "../../evaluation/bench-types.js";
import { rankLabel, rankTitle } from "../../evaluation/rank-name.js";
import { formatBytes, formatCount, formatDuration, formatLoss, formatQuantity } from "../../format.js";
import { type Html, html } from "../html.js";
import { dataTable, factList } from "../table.js";
import { percent } from "./tables.js";

export function settingsList(report: BenchReport): Html {
  const { settings, extent, bands } = report;
  return factList([
    ["Base model", settings.modelPath],
    ["Held-out images", `${settings.dataDir} (${formatQuantity(extent.imageCount, "image")})`],
    [
      "Measured",
      `${formatCount(extent.sampleCount)} losses for each rank: ${formatQuantity(extent.drawsPerImage, "draw")} per image${extent.reusedLosses > 0 ? `; ${formatCount(extent.reusedLosses)} of all were known from before` : ""}`,
    ],
    [
      "Stopped",
      extent.stoppedBy === "until" && settings.until !== null
        ? `when the intervals were narrower than ±${percent(100 * settings.until)} of the base model's loss`
        : "after the draws that were asked for",
    ],
    [
      "Bands",
      `timesteps ${bands.map(({ firstTimestep, lastTimestep }) => `${firstTimestep}–${lastTimestep}`).join(", ")}`,
    ],
    ["Size", sizesText(settings)],
    ["Strengths", settings.multipliers.join(", ")],
    ["Tolerance", `the recommended rank may lose ${percent(100 * settings.tolerance)} of the gain`],
    ["Prediction", `${settings.predictionType}${settings.zeroTerminalSnr ? ", zero terminal SNR" : ""}`],
    ["Text encoder", `clip skip ${settings.clipSkip}`],
    ["Seed", settings.seed],
    [
      "Device",
      `${settings.device} (${settings.provider}), ${settings.executionMode} mode, batch ${settings.batchSize}`,
    ],
    ["Time", formatDuration(report.seconds)],
    ["Peak memory", formatBytes(report.peakRssBytes)],
  ]);
}

export function fileTable(report: BenchReport): Html {
  return dataTable({
    id: "files",
    caption: "The files that were compared.",
    columns: [
      { title: "File" },
      { title: "Kind" },
      { title: "Names as in" },
      { title: "Full rank", numeric: true },
      { title: "Size at full rank", numeric: true },
      { title: "Path" },
    ],
    rows: report.files.map((file, index) => ({
      highlighted: report.files.length > 1 && index === report.recommendation.file,
      cells: [
        file.name,
        file.isDylora ? "DyLoRA" : file.isMixed ? "LoRA, mixed ranks" : "LoRA",
        file.dialect,
        rankLabel(file, file.maxRank),
        formatBytes(file.ranks.at(-1)!.fileSizeBytes),
        html`<span class="path">${file.path}</span>`,
      ],
    })),
  });
}

/** Loss of every image, for those who want to see which ones a low rank fails on. */
export function imageTable(report: BenchReport): Html {
  const { images, base, files, recommendation } = report;
  const file = files[recommendation.file]!;
  const columns = file.ranks.map(({ rank, multipliers }) => ({
    rank,
    losses: multipliers.find(({ multiplier }) => multiplier === file.recommendation.multiplier)!.lossByImage,
  }));
  return html`<details><summary>Loss of every image</summary>
${dataTable({
  id: "loss-by-image",
  caption: `Mean loss of each image, ${file.name}.`,
  columns: [
    { title: "Image" },
    { title: "base model", numeric: true },
    ...columns.map(({ rank }) => ({ title: rankTitle(file, rank), numeric: true })),
    { title: "Caption" },
  ],
  rows: images.map(({ key, caption }, index) => ({
    cells: [
      basename(key),
      formatLoss(base.lossByImage[index]!),
      ...columns.map(({ losses }) => formatLoss(losses[index]!)),
      caption.length > 80 ? `${caption.slice(0, 79)}…` : caption,
    ],
  })),
})}</details>
`;
}

function sizesText({ buckets, width, height }: BenchReport["settings"]): string {
  if (buckets.length === 0) return `${width}x${height} px`;
  const sizes = buckets.map((bucket) => `${bucket.width}x${bucket.height} (${bucket.imageCount})`);
  return `buckets of about the area of ${width}x${height} px: ${sizes.join(", ")}`;
}
