/** This engine against the golden data of an independent implementation. */

import { Denoiser, type TrainBatch } from "../../src/denoiser/denoiser.js";
import type { ComputeType } from "../../src/denoiser/denoiser-graph.js";
import type { ActiveModule } from "../../src/denoiser/factors.js";
import { LatentDecoder } from "../../src/denoiser/latent-decoder.js";
import { LatentEncoder } from "../../src/denoiser/latent-encoder.js";
import { TextConditioner } from "../../src/denoiser/text-conditioner.js";
import { largestTile } from "../../src/graph/ops/winograd.js";
import type { Checkpoint } from "../../src/models/checkpoint/index.js";
import type { DeviceName } from "../../src/runtime/device.js";
import type { ExecutionMode } from "../../src/runtime/session.js";
import { LossScaler } from "../../src/training/loss-scaler.js";
import { type GoldenFolder, type GoldenSource, openGoldenFolder, rankMajor } from "./golden-folder.js";
import {
  HALF_TOLERANCES,
  KINDS,
  type Kind,
  TOLERANCES,
  type WorstError,
  WorstErrors,
} from "./worst-errors.js";

export interface ParityOptions {
  device: DeviceName;
  mode: ExecutionMode;
  gradientCheckpointing?: boolean;
  /** Of the denoiser; text encoder and VAE in front of it are float32. Default float32. */
  computeType?: ComputeType;
  /** Compute every 3x3 convolution in tiles that can be; default: those that are faster so, which these models are too small for. */
  tiles?: boolean;
}

export interface ParityReport {
  device: DeviceName;
  mode: ExecutionMode;
  computeType: ComputeType;
  /** Every kind is within its tolerance, and something was compared. */
  passed: boolean;
  tolerances: Readonly<Record<Kind, number>>;
  worst: Readonly<Record<Kind, WorstError>>;
  /** Parts that a folder lacks, and what was left out for another reason. */
  skipped: readonly string[];
}

/** The float32 functions of GPUs are less exact. */
const GPU_TOLERANCE_FACTOR = 10;

/**
 * Compares every case of every folder (layout: README of the golden data).
 *
 * @throws {DyloraError} for a folder without checkpoint or cases, or what the engine throws
 */
export async function compareWithGolden(
  dirs: readonly string[],
  options: ParityOptions,
): Promise<ParityReport> {
  const { device, mode, computeType = "float32" } = options;
  const worst = new WorstErrors();
  const skipped: string[] = [];
  for (const dir of dirs) {
    const folder = await openGoldenFolder(dir);
    skipped.push(...folder.missing.map((part) => `${dir} ${part}`));
    // Both sources hold the same weights; a GPU, in software perhaps, is not made to say everything twice.
    const sources = device === "cpu" ? folder.sources : folder.sources.slice(0, 1);
    for (const source of folder.sources.slice(sources.length))
      skipped.push(`${dir} ${source.name} (on the CPU only)`);
    for (const source of sources) await new Comparison(folder, source, options, worst, skipped).run();
  }
  const tolerances = computeType === "float16" ? HALF_TOLERANCES : tolerancesOf(device);
  const passed =
    worst.within(tolerances) && KINDS.every((kind) => kind === "gradient" || worst.worst[kind].compared > 0);
  return {
    device,
    mode,
    computeType,
    passed,
    tolerances,
    worst: worst.worst,
    skipped,
  };
}

function tolerancesOf(device: DeviceName): Readonly<Record<Kind, number>> {
  const factor = device === "cpu" ? 1 : GPU_TOLERANCE_FACTOR;
  const { output, loss, gradient } = TOLERANCES;
  return { output: output * factor, loss: loss * factor, gradient: gradient * factor };
}

type GoldenBatch = Omit<TrainBatch, "text"> & { text: { tokens: number[][] } };

/** One checkpoint of one folder. */
class Comparison {
  readonly #folder: GoldenFolder;
  readonly #name: string;
  readonly #checkpoint: Checkpoint;
  readonly #options: ParityOptions;
  readonly #worst: WorstErrors;
  readonly #skipped: string[];

  constructor(
    folder: GoldenFolder,
    { name, checkpoint }: GoldenSource,
    options: ParityOptions,
    worst: WorstErrors,
    skipped: string[],
  ) {
    this.#folder = folder;
    this.#name = name;
    this.#checkpoint = checkpoint;
    this.#options = options;
    this.#worst = worst;
    this.#skipped = skipped;
  }

  async run(): Promise<void> {
    await this.#compareVae();
    const batch = goldenBatch(this.#folder);
    if (batch === null) {
      this.#skip("sample");
      return;
    }
    await this.#compareTextEncoder(batch);
    await this.#compareDenoiser(batch);
  }

  async #compareVae(): Promise<void> {
    const { device } = this.#options;
    const { vae } = this.#checkpoint;
    if (vae === null) {
      this.#skip("vae");
      return;
    }
    const { cases } = this.#folder;
    const image = cases.get("vae.image");
    if (image === undefined) {
      this.#skip("vae.image");
    } else {
      const encoder = new LatentEncoder({ vae, device });
      const [, , height, width] = image.shape;
      const moments = await encoder.encode(image.values, height!, width!);
      this.#compareOutput("vae.mean", moments.mean);
      this.#compareOutput("vae.logvar", moments.logvar);
      await encoder.release();
    }
    const latent = cases.get("vae.latent");
    if (latent === undefined) {
      this.#skip("vae.latent");
    } else {
      const decoder = new LatentDecoder({ vae, device });
      const [, , height, width] = latent.shape;
      this.#compareOutput("vae.decoded", await decoder.decode(latent.values, height!, width!));
      await decoder.release();
    }
  }

  async #compareTextEncoder(batch: GoldenBatch): Promise<void> {
    for (const [tensor, clipSkip] of [
      ["text.base", 1],
      ["text.penultimate", 2],
    ] as const) {
      this.#compareOutput(tensor, await this.#encode(batch, clipSkip));
    }
  }

  async #compareDenoiser(batch: GoldenBatch): Promise<void> {
    const { factors, ranks } = this.#folder;
    const { device, mode, gradientCheckpointing = false, computeType = "float32" } = this.#options;
    const { tiles = false } = this.#options;
    const denoiser = new Denoiser({
      checkpoint: this.#checkpoint,
      targets: factors.map(({ target }) => target),
      device,
      mode,
      gradientCheckpointing,
      computeType,
      ...(tiles ? { convolutionTile: largestTile } : {}),
    });
    // With a text encoder adapter the graph starts at the tokens; without one, at the encoder's output.
    const input: TrainBatch = denoiser.includesTextEncoder
      ? batch
      : {
          ...batch,
          text: {
            context: await this.#encode(batch, 1),
            tokensPerPrompt: batch.text.tokens[0]!.length,
          },
        };
    const active = (rank: number) => factors.map((module) => activate(module, rank));
    // Rank 0 is the base model. Software GPUs take minutes for an execution, so a GPU answers everything in one.
    if (device === "cpu") {
      this.#compareOutput("out.base", (await denoiser.predict(input, active(0))).prediction);
      this.#compareLoss("loss.base", await denoiser.loss(input, active(0)));
    } else {
      const { prediction, loss } = await denoiser.inspect(input, active(0));
      this.#compareOutput("out.base", prediction);
      this.#compareLoss("loss.base", loss);
    }
    for (const rank of ranks) {
      const { prediction, context, loss, gradients } = await this.#inspect(denoiser, input, active(rank));
      this.#compareOutput(`rank${rank}.out`, prediction);
      if (context !== null) this.#compareOutput(`rank${rank}.text`, context);
      this.#compareLoss(`rank${rank}.loss`, loss);
      for (const { target } of factors) this.#compareGradients(rank, target.name, gradients.get(target.name));
    }
    await denoiser.release();
  }

  /** {@link Denoiser.inspect}, in float16 with the largest loss scale that training would come to. */
  async #inspect(denoiser: Denoiser, input: TrainBatch, modules: readonly ActiveModule[]) {
    if (this.#options.computeType !== "float16") return denoiser.inspect(input, modules);
    for (const scaler = new LossScaler(); ; ) {
      const lossScale = scaler.scale;
      const lossWeight = input.lossWeight.map((weight) => weight * lossScale);
      const answer = await denoiser.inspect({ ...input, lossWeight }, modules);
      const unscaled = (values: Float32Array) => values.map((value) => value / lossScale);
      const gradients = new Map(
        [...answer.gradients].map(([name, { down, up }]) => [
          name,
          { down: unscaled(down), up: unscaled(up) },
        ]),
      );
      const overflowed = [...gradients.values()].some(
        ({ down, up }) => !down.every(Number.isFinite) || !up.every(Number.isFinite),
      );
      if (!overflowed || !scaler.skipped()) return { ...answer, gradients };
    }
  }

  #compareGradients(
    rank: number,
    module: string,
    ours: { down: Float32Array; up: Float32Array } | undefined,
  ): void {
    for (const side of ["down", "up"] as const) {
      const tensor = `rank${rank}.grad.${module}.lora_${side}.weight`;
      const expected = this.#folder.cases.get(tensor);
      if (expected === undefined) continue;
      const values = side === "up" ? rankMajor(expected.values, expected.shape[1]!) : expected.values;
      this.#worst.add("gradient", this.#at(tensor), ours?.[side] ?? new Float32Array(values.length), values);
    }
  }

  #compareOutput(tensor: string, ours: Float32Array): void {
    const expected = this.#folder.cases.get(tensor);
    if (expected === undefined) this.#skip(tensor);
    else this.#worst.add("output", this.#at(tensor), ours, expected.values);
  }

  #compareLoss(tensor: string, ours: Float32Array): void {
    const expected = this.#folder.cases.get(tensor);
    const mean = ours.reduce((total, loss) => total + loss, 0) / ours.length;
    if (expected === undefined) this.#skip(tensor);
    else this.#worst.add("loss", this.#at(tensor), Float32Array.of(mean), expected.values);
  }

  async #encode(batch: GoldenBatch, clipSkip: number): Promise<Float32Array> {
    const { device } = this.#options;
    const conditioner = new TextConditioner({ checkpoint: this.#checkpoint, device, clipSkip });
    const states = await conditioner.encodeBatch(batch.text.tokens);
    await conditioner.release();
    return states;
  }

  #at(tensor: string): string {
    return `${this.#folder.dir} ${this.#name} ${tensor}`;
  }

  #skip(part: string): void {
    this.#skipped.push(this.#at(part));
  }
}

function activate(factors: ActiveModule["factors"], rank: number): ActiveModule {
  const active = Math.min(rank, factors.maxRank);
  return { factors, rank: active, scale: active === 0 ? 0 : factors.alpha / active };
}

/** The inputs of the cases, and the token ids by row; null where a folder has none. */
function goldenBatch({ cases }: GoldenFolder): GoldenBatch | null {
  const [sample, timesteps, tokens, target] = ["sample", "timesteps", "tokens", "target"].map((name) =>
    cases.get(name),
  );
  if (!sample || !timesteps || !tokens || !target) return null;
  const [count, , height, width] = sample.shape as [number, number, number, number];
  const length = tokens.shape[1]!;
  return {
    count,
    height,
    width,
    sample: sample.values,
    timesteps: [...timesteps.values],
    target: target.values,
    lossWeight: new Float32Array(count).fill(1 / count),
    text: {
      tokens: Array.from({ length: count }, (_, row) => [
        ...tokens.values.subarray(row * length, (row + 1) * length),
      ]),
    },
  };
}
