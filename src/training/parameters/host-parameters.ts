/** Factors and optimizer in the process's own memory, which the modules' arrays are. */

import type { Denoiser, DenoiserBatch, TrainBatch } from "../../denoiser/denoiser.js";
import { downWidth, upWidth } from "../../denoiser/factors.js";
import { LastGood } from "../last-good.js";
import { GradientAccumulator, type Optimizer } from "../optimizer/index.js";
import { activate, type TrainedModule } from "../trained-module.js";
import type { LearningRates, ModuleDraw, ParameterStore } from "./parameter-store.js";

export class HostParameters implements ParameterStore {
  readonly isResident = false;
  readonly lastGood: LastGood;
  readonly #denoiser: Denoiser;
  readonly #modules: readonly TrainedModule[];
  readonly #optimizer: Optimizer;
  readonly #accumulator: GradientAccumulator;
  /** Whether the modules' arrays for gradients hold those of an earlier micro-step of this step. */
  #holdsGradients = false;

  constructor(denoiser: Denoiser, modules: readonly TrainedModule[], optimizer: Optimizer) {
    this.#denoiser = denoiser;
    this.#modules = modules;
    this.#optimizer = optimizer;
    this.lastGood = new LastGood(modules);
    this.#accumulator = new GradientAccumulator(
      modules.flatMap(({ factors: { target } }) => [downWidth(target), upWidth(target)]),
    );
  }

  async prepare(size: Pick<DenoiserBatch, "count" | "height" | "width">, tokens: number): Promise<void> {
    await this.#denoiser.prepare("train", size, tokens);
  }

  reset(): void {
    this.#accumulator.reset();
    this.#holdsGradients = false;
  }

  async accumulate(batch: TrainBatch, draws: readonly ModuleDraw[]): Promise<Float32Array> {
    const active = this.#modules.map(({ factors }, index) => activate(factors, draws[index]!.rank));
    const into = this.#holdsGradients ? undefined : this.#modules.map((module) => module.gradients);
    const { loss, gradients } = await this.#denoiser.gradients(batch, active, into);
    this.#holdsGradients = true;
    for (const [index, { factors }] of this.#modules.entries()) {
      const gradient = gradients.get(factors.target.name);
      if (gradient === undefined) continue;
      const { rows } = draws[index]!;
      const { target } = factors;
      const trained = (values: Float32Array, width: number) =>
        values.subarray(rows.begin * width, rows.end * width);
      this.#accumulator.add(2 * index, rows, trained(gradient.down, downWidth(target)));
      this.#accumulator.add(2 * index + 1, rows, trained(gradient.up, upWidth(target)));
    }
    return loss;
  }

  async gradientNorm(scale: number): Promise<number> {
    return this.#accumulator.norm(scale);
  }

  async update(gradientScale: number, learningRates: LearningRates): Promise<void> {
    for (const [index, { factors, down, up }] of this.#modules.entries()) {
      const learningRate = learningRates[factors.target.component];
      const parts = [
        { values: factors.down, state: down, touched: this.#accumulator.touched(2 * index) },
        { values: factors.up, state: up, touched: this.#accumulator.touched(2 * index + 1) },
      ];
      for (const { values, state, touched } of parts) {
        for (const { rows, gradient } of touched) {
          this.#optimizer.step({ values, state, rows, gradient, learningRate, gradientScale });
        }
      }
    }
  }

  async toHost(): Promise<void> {}

  async release(): Promise<void> {}
}
