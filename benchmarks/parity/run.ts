/**
 * Compares this engine with the golden data of an independent implementation.
 *
 *   npm run -s parity -- DIR… [--device cpu|webgpu] [--mode fast|lean] [--gradient_checkpointing]
 *
 * Prints one JSON document with the worst relative error per kind; exits 0 only when every one is within tolerance (ten
 * times that on a GPU, whose float32 functions are less exact).
 */

import { parseArgs } from "node:util";
import { Denoiser, type TrainBatch } from "../../src/denoiser/denoiser.js";
import type { ActiveModule } from "../../src/denoiser/factors.js";
import { LatentDecoder } from "../../src/denoiser/latent-decoder.js";
import { LatentEncoder } from "../../src/denoiser/latent-encoder.js";
import { TextConditioner } from "../../src/denoiser/text-conditioner.js";
import { DyloraError } from "../../src/errors.js";
import type { DeviceName } from "../../src/runtime/device.js";
import type { ExecutionMode } from "../../src/runtime/session.js";
import {
  type CaseTensor,
  type GoldenFolder,
  type GoldenSource,
  openGoldenFolder,
  rankMajor,
} from "./golden-folder.js";
import { KINDS, TOLERANCES, WorstErrors } from "./worst-errors.js";

const { values: options, positionals: folders } = parseArgs({
  allowPositionals: true,
  options: {
    device: { type: "string", default: "cpu" },
    mode: { type: "string", default: "fast" },
    gradient_checkpointing: { type: "boolean", default: false },
  },
});
const device = options.device as DeviceName;
const mode = options.mode as ExecutionMode;
/** See the head of this file. */
const toleranceFactor = device === "cpu" ? 1 : 10;

const worst = new WorstErrors();
const skipped: string[] = [];

async function compareSource(folder: GoldenFolder, { name, checkpoint }: GoldenSource): Promise<void> {
  const at = (tensor: string) => `${folder.dir} ${name} ${tensor}`;
  const skip = (part: string) => skipped.push(at(part));
  const reference = (tensor: string) => folder.cases.get(tensor);
  const compareOutput = (tensor: string, ours: Float32Array) => {
    const expected = reference(tensor);
    if (expected === undefined) skip(tensor);
    else worst.add("output", at(tensor), ours, expected.values);
  };
  const compareLoss = (tensor: string, ours: Float32Array) => {
    const expected = reference(tensor);
    const mean = ours.reduce((total, loss) => total + loss, 0) / ours.length;
    if (expected === undefined) skip(tensor);
    else worst.add("loss", at(tensor), Float32Array.of(mean), expected.values);
  };

  if (checkpoint.vae === null) {
    skip("vae");
  } else {
    const image = reference("vae.image");
    if (image === undefined) {
      skip("vae.image");
    } else {
      const encoder = new LatentEncoder({ vae: checkpoint.vae, device });
      const [, , height, width] = image.shape;
      const moments = await encoder.encode(image.values, height!, width!);
      compareOutput("vae.mean", moments.mean);
      compareOutput("vae.logvar", moments.logvar);
      await encoder.release();
    }
    const latent = reference("vae.latent");
    if (latent === undefined) {
      skip("vae.latent");
    } else {
      const decoder = new LatentDecoder({ vae: checkpoint.vae, device });
      const [, , height, width] = latent.shape;
      compareOutput("vae.decoded", await decoder.decode(latent.values, height!, width!));
      await decoder.release();
    }
  }

  const batch = denoiserBatch(folder);
  if (batch === null) {
    skip("sample");
    return;
  }
  for (const [tensor, clipSkip] of [
    ["text.base", 1],
    ["text.penultimate", 2],
  ] as const) {
    const conditioner = new TextConditioner({ checkpoint, device, clipSkip });
    compareOutput(tensor, await conditioner.encodeBatch(batch.text.tokens));
    await conditioner.release();
  }

  const targets = folder.factors.map((factors) => factors.target);
  const denoiser = new Denoiser({
    checkpoint,
    targets,
    device,
    mode,
    gradientCheckpointing: options.gradient_checkpointing,
  });
  const activate = (rank: number): ActiveModule[] =>
    folder.factors.map((factors) => {
      const active = Math.min(rank, factors.maxRank);
      return { factors, rank: active, scale: active === 0 ? 0 : factors.alpha / active };
    });
  // With a text encoder adapter the graph starts at the tokens; without one, at the encoder's output.
  const input = denoiser.includesTextEncoder ? batch : { ...batch, text: await contextOf(checkpoint, batch) };
  // Rank 0 is the base model. Software GPUs take minutes for an execution, so a GPU answers everything in one.
  const base =
    device === "cpu"
      ? await denoiser.predict(input, activate(0))
      : await denoiser.inspect(input, activate(0));
  compareOutput("out.base", base.prediction);
  const baseLoss =
    device === "cpu"
      ? await denoiser.loss(input, activate(0))
      : (base as typeof base & { loss: Float32Array }).loss;
  compareLoss("loss.base", baseLoss);
  for (const rank of folder.ranks) {
    const { prediction, context, loss, gradients } = await denoiser.inspect(input, activate(rank));
    compareOutput(`rank${rank}.out`, prediction);
    if (context !== null) compareOutput(`rank${rank}.text`, context);
    compareLoss(`rank${rank}.loss`, loss);
    for (const { target } of folder.factors) {
      const names = { down: `${target.name}.lora_down.weight`, up: `${target.name}.lora_up.weight` };
      const ours = gradients.get(target.name);
      for (const side of ["down", "up"] as const) {
        const tensor = `rank${rank}.grad.${names[side]}`;
        const expected = reference(tensor);
        if (expected === undefined) continue;
        const values = side === "up" ? rankMajor(expected.values, expected.shape[1]!) : expected.values;
        worst.add("gradient", at(tensor), ours?.[side] ?? new Float32Array(values.length), values);
      }
    }
  }
  await denoiser.release();
}

/** The inputs of the cases, and the token ids by row. */
function denoiserBatch(
  folder: GoldenFolder,
): (Omit<TrainBatch, "text"> & { text: { tokens: number[][] } }) | null {
  const [sample, timesteps, tokens, target] = ["sample", "timesteps", "tokens", "target"].map((name) =>
    folder.cases.get(name),
  ) as (CaseTensor | undefined)[];
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

async function contextOf(checkpoint: GoldenSource["checkpoint"], batch: { text: { tokens: number[][] } }) {
  const conditioner = new TextConditioner({ checkpoint, device });
  const context = await conditioner.encodeBatch(batch.text.tokens);
  await conditioner.release();
  return { context, tokensPerPrompt: batch.text.tokens[0]!.length };
}

try {
  if (folders.length === 0) {
    throw new DyloraError("E_USAGE", "parity: no folder given", {
      note: "npm run -s parity -- DIR… [--device cpu|webgpu]",
    });
  }
  for (const dir of folders) {
    const folder = await openGoldenFolder(dir);
    skipped.push(...folder.missing.map((part) => `${dir} ${part}`));
    // Both sources hold the same weights; a GPU, in software perhaps, is not made to say everything twice.
    const sources = device === "cpu" ? folder.sources : folder.sources.slice(0, 1);
    for (const source of folder.sources.slice(sources.length))
      skipped.push(`${dir} ${source.name} (on the CPU only)`);
    for (const source of sources) await compareSource(folder, source);
  }
  const passed =
    worst.within(toleranceFactor) &&
    KINDS.every((kind) => kind === "gradient" || worst.worst[kind].compared > 0);
  const tolerances = Object.fromEntries(KINDS.map((kind) => [kind, TOLERANCES[kind] * toleranceFactor]));
  console.log(
    JSON.stringify(
      { schemaVersion: 1, device, mode, passed, tolerances, worst: worst.worst, skipped },
      null,
      2,
    ),
  );
  process.exitCode = passed ? 0 : 1;
} catch (error) {
  const problem = error instanceof DyloraError ? error : null;
  console.error(
    problem === null ? error : `error[${problem.code}]: ${problem.message}\n  note: ${problem.note}`,
  );
  process.exitCode = problem?.exitCode ?? 1;
}
