/** The events of a training run as text for people. */
import type {
  EndEvent,
  InterruptedEvent,
  SampleEvent,
  StartEvent,
  StepEvent,
  TrainedFile,
  ValidationEvent,
} from "../training/events.js";
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatLearningRate,
  formatLoss,
  formatPath,
  formatPercent,
  formatQuantity,
  formatRanks,
  formatRate,
  quoteArgument,
} from "./format.js";
import { renderFields } from "./table.js";

/** What is about to happen, and on what. */
export function startBlock(event: StartEvent): string {
  const { network, data, baseModel } = event;
  const rank =
    network.module === "lora"
      ? `lora, rank ${network.maxRank}`
      : `dylora, maximum rank ${network.maxRank}, unit ${network.unit}, update mode ${network.updateMode}`;
  const parts = [
    network.unetModules > 0 ? `${formatCount(network.unetModules)} U-Net` : null,
    network.textEncoderModules > 0 ? `${formatCount(network.textEncoderModules)} text encoder` : null,
  ].filter((part) => part !== null);
  const modules = network.unetModules + network.textEncoderModules;
  const held = data.validationImageCount > 0 ? `, ${formatCount(data.validationImageCount)} held out` : "";
  const accumulation =
    event.gradientAccumulationSteps > 1 ? ` x ${event.gradientAccumulationSteps} micro-steps` : "";
  return renderFields(
    [
      [
        "model",
        `${formatPath(baseModel.path)} (${baseModel.version}, ${baseModel.predictionType} prediction)`,
      ],
      ["device", deviceText(event)],
      ["network", `${rank}, alpha ${network.alpha}`],
      [
        "trained",
        `${formatQuantity(network.trainableParameters, "parameter")} (${formatPercent(network.trainablePercent)}) in ${formatQuantity(modules, "module")}: ${parts.join(", ")}`,
      ],
      [
        "data",
        `${formatQuantity(data.imageCount, "image")}, ${formatQuantity(data.samplesPerEpoch, "sample")} an epoch, ${sizesText(data)}${held}`,
      ],
      ...bucketRows(event),
      [
        "steps",
        `${formatCount(event.totalSteps)} (${formatQuantity(event.totalEpochs, "epoch")}), batch ${event.batchSize}${accumulation}, seed ${event.seed}`,
      ],
      ["memory", memoryText(event)],
      ["output", formatPath(event.outputDir)],
    ],
    "  ",
  );
}

function sizesText({ buckets, width, height }: StartEvent["data"]): string {
  const size = `${width}x${height} px`;
  return buckets.length === 0
    ? size
    : `${formatQuantity(buckets.length, "size")} of about the area of ${size}`;
}

/** A line for each bucket: size, images, samples of an epoch. */
function bucketRows({ data }: StartEvent): [name: string, value: string][] {
  const column = (values: readonly string[]) => {
    const width = Math.max(...values.map(({ length }) => length));
    return values.map((value) => value.padStart(width));
  };
  const { buckets } = data;
  const sizes = column(buckets.map(({ width, height }) => `${width}x${height}`));
  const images = column(buckets.map(({ imageCount }) => formatQuantity(imageCount, "image")));
  const samples = column(buckets.map(({ sampleCount }) => formatQuantity(sampleCount, "sample")));
  return buckets.map((_, index) => [
    index === 0 ? "buckets" : "",
    `${sizes[index]}  ${images[index]}  ${samples[index]}`,
  ]);
}

function memoryText({ estimatedPeakBytes, sharedWeightBytes }: StartEvent): string {
  const peak = `about ${formatBytes(estimatedPeakBytes)} at the peak`;
  // A little is always shared; only what explains the figure is worth a line.
  if (sharedWeightBytes < 0.01 * estimatedPeakBytes) return peak;
  return `${peak}, ${formatBytes(sharedWeightBytes)} of it weights that sessions share: they lie in memory once`;
}

/** `step 120/2000  loss 0.1042 (ema 0.1187)  rank 8  lr 1.0e-4  1.9 s/it  eta 59m  mem 5.1 GB` */
export function stepLine(event: StepEvent): string {
  const skippedSteps = event.lossScaling?.skippedSteps ?? 0;
  const rates = Object.values(event.learningRates).map(formatLearningRate);
  return [
    `step ${event.step}/${event.totalSteps}`,
    `loss ${formatLoss(event.loss)} (ema ${formatLoss(event.lossEma)})`,
    `rank ${formatRanks(event.ranks)}`,
    `lr ${[...new Set(rates)].join("/")}`,
    formatRate(event.secondsPerStep),
    `eta ${formatDuration(event.etaSeconds)}`,
    `mem ${formatBytes(event.rssBytes)}`,
    ...(skippedSteps > 0 ? [`skipped ${formatCount(skippedSteps)}`] : []),
  ].join("  ");
}

export function validationLine(event: ValidationEvent): string {
  const losses = event.byRank.map(({ rank, loss }) => `rank ${rank}: ${formatLoss(loss)}`).join("  ");
  return `validation at step ${event.step}  ${losses}  (${formatQuantity(event.sampleCount, "sample")})`;
}

export function sampleLine(event: SampleEvent): string {
  return `drew ${formatPath(event.path)} (rank ${event.rank}) at step ${event.step}`;
}

export function interruptedBlock(event: InterruptedEvent): string {
  const state = formatPath(event.stateDir);
  return [
    `interrupted at step ${event.step} of ${event.totalSteps}; the state is saved in ${state}`,
    `  go on with: dylora resume ${quoteArgument(state)}`,
    "",
  ].join("\n");
}

/** What was done, and where everything lies. */
export function endBlock(event: EndEvent, module: "lora" | "dylora" | null): string {
  const head = [
    `trained ${formatQuantity(event.steps, "step")} in ${formatDuration(event.seconds)}`,
    `loss ${formatLoss(event.lossEma)} (ema)`,
    `peak memory ${formatBytes(event.peakRssBytes)} (estimated ${formatBytes(event.estimatedPeakBytes)})`,
  ].join(", ");
  const files = renderFields(
    event.files.map((file) => [file.kind, `${formatPath(file.path)} (${formatBytes(file.sizeBytes)})`]),
    "  ",
  );
  const weights = lastWeights(event.files);
  const next =
    module === "dylora" && weights !== null
      ? `  next: dylora extract ${quoteArgument(formatPath(weights.path))} --all --out ranks\n`
      : "";
  return `${head}\n${files}${next}`;
}

function lastWeights(files: readonly TrainedFile[]): TrainedFile | null {
  return files.filter(({ kind }) => kind === "weights").at(-1) ?? null;
}

/** On a GPU also what never leaves it. */
function deviceText(event: StartEvent): string {
  const facts = `${event.device} (${event.provider}), ${event.dtype}, ${event.executionMode} mode`;
  if (event.device === "cpu") return facts;
  const step = event.residentStep ? "the whole step on the device" : "optimizer on the CPU";
  return `${facts}, ${step}, no operator of the model on the CPU`;
}
