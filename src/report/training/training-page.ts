/** A training run as a page. */

import { formatBytes, formatCount, formatDuration, formatLoss, formatQuantity } from "../../format.js";
import { figure } from "../figure.js";
import { type Html, html } from "../html.js";
import { renderPage, section } from "../page.js";
import { type PictureGrid, pictureGrid } from "../pictures/picture-grid.js";
import { lossByRankDrawn, lossOverSteps, validationLoss } from "./loss-figures.js";
import { gradientNorm, learningRate, memory, secondsPerStep } from "./pace-figures.js";
import type { LoggedStart, LoggedStep, RunLog } from "./run-log.js";
import { runSettings, startTable } from "./run-settings.js";
import { median } from "./series.js";

export type RunStatus = "running" | "finished" | "stopped";

export interface TrainingPageContent {
  readonly log: RunLog;
  readonly status: RunStatus;
  /** Seconds after which a newer version of the page will be there; null for a run that does not go on. */
  readonly refreshSeconds: number | null;
  /** Null: the run draws none. */
  readonly pictures: PictureGrid | null;
  /** ISO 8601. */
  readonly date: string;
}

/** @returns a whole HTML document */
export function trainingPage(content: TrainingPageContent): string {
  const { log, refreshSeconds, pictures, date } = content;
  const start = log.starts.at(-1)!;
  const name = start.config.outputName;
  const title = headline(content);
  const losses = [lossOverSteps, validationLoss, lossByRankDrawn]
    .map((build) => (log.steps.length === 0 ? null : build(log)))
    .filter((entry) => entry !== null);
  const pace =
    log.steps.length === 0
      ? []
      : [learningRate, gradientNorm, secondsPerStep, memory].map((build) => build(log));
  return renderPage({
    title: `${title} – ${name}`,
    headline: title,
    kicker: `${name}: ${start.network.module === "dylora" ? "DyLoRA, ranks up to" : "LoRA of rank"} ${start.network.maxRank}, on ${start.baseModel.path.split(/[/\\]/).at(-1)}`,
    lede: html`<p>${summary(content)}</p>
`,
    date,
    refreshSeconds,
    body: [
      log.steps.length === 0 ? null : keyFigures(content),
      losses.length === 0 ? null : section("losses", "Does it learn?", losses.map(figure)),
      pictures === null || pictures.rows.length === 0
        ? null
        : section("see", "See for yourself", pictureGrid(pictures)),
      pace.length === 0 ? null : section("pace", "Is it healthy?", pace.map(figure)),
      section("settings", "What was run", runSettings(start), startTable(log)),
    ],
  });
}

function headline({ log, status }: TrainingPageContent): string {
  const { totalSteps } = log.starts.at(-1)!;
  const last = log.steps.at(-1);
  if (last === undefined) return "The first step is still to come";
  const place = `step ${formatCount(last.step)} of ${formatCount(totalSteps)}`;
  if (status === "running") return `Training: ${place}`;
  if (status === "stopped") return `Stopped at ${place}`;
  const [from, to] = [early(log.steps), last.lossEma];
  const change = to < from ? "fell" : "did not fall:";
  return to < from
    ? `Loss ${change} from ${formatLoss(from)} to ${formatLoss(to)}`
    : `Loss ${change} ${formatLoss(from)} to ${formatLoss(to)}`;
}

/** Mean loss of the first steps: a twentieth of all, at least five. */
function early(steps: readonly LoggedStep[]): number {
  const first = steps.slice(0, Math.max(5, Math.round(steps.length / 20)));
  return first.reduce((sum, { loss }) => sum + loss, 0) / first.length;
}

function summary({ log, status }: TrainingPageContent): string {
  const { totalSteps, outputDir } = log.starts.at(-1)!;
  const last = log.steps.at(-1);
  if (last === undefined) return `${formatQuantity(totalSteps, "step")} are planned.`;
  const seconds = log.steps.reduce((sum, step) => sum + step.secondsPerStep, 0);
  const loss = `the smoothed loss is ${formatLoss(last.lossEma)}`;
  if (status === "running") {
    const left = (totalSteps - last.step) * typicalSeconds(log.steps);
    return `About ${formatDuration(left)} left; ${loss}.`;
  }
  if (status === "stopped") {
    return `After ${formatDuration(seconds)} of training; ${loss}. What was saved lies in ${outputDir}.`;
  }
  const best = log.validations
    .at(-1)
    ?.byRank.reduce((lowest, entry) => (entry.loss < lowest.loss ? entry : lowest));
  const held =
    best === undefined
      ? " Measure on held-out images before you choose a rank: dylora bench."
      : ` Lowest loss on held-out images: rank ${best.rank} with ${formatLoss(best.loss)}.`;
  return `${formatQuantity(last.step, "step")} in ${formatDuration(seconds)} of training.${held}`;
}

/** Of the last steps. */
function typicalSeconds(steps: readonly LoggedStep[]): number {
  return median(steps.slice(-20).map((step) => step.secondsPerStep));
}

function keyFigures({ log, status }: TrainingPageContent): Html {
  const { totalSteps } = log.starts.at(-1)!;
  const last = log.steps.at(-1)!;
  const seconds = log.steps.reduce((sum, step) => sum + step.secondsPerStep, 0);
  const peak = Math.max(...log.steps.map(({ rssBytes }) => rssBytes));
  const tiles: (readonly [string, string, string])[] = [
    [
      "Steps",
      formatCount(last.step),
      status === "finished"
        ? formatQuantity(last.epoch, "epoch")
        : `of ${formatCount(totalSteps)}, epoch ${last.epoch}`,
    ],
    ["Smoothed loss", formatLoss(last.lossEma), `${formatLoss(early(log.steps))} in the beginning`],
    ["Time of a step", formatDuration(typicalSeconds(log.steps)), `${formatDuration(seconds)} in all`],
    ["Memory", formatBytes(peak), `${formatBytes(startOf(log).estimatedPeakBytes)} were estimated`],
  ];
  return html`<dl class="tiles">
${tiles.map(
  ([name, value, note]) => html`<div><dt>${name}</dt><dd>${value} <small>${note}</small></dd></div>
`,
)}</dl>
`;
}

function startOf({ starts }: RunLog): LoggedStart {
  return starts.at(-1)!;
}
