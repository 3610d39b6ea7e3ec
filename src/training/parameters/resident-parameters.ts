/**
 * Factors, gradients and optimizer in the memory of the device.
 *
 * Of a step, the losses and the norm of the gradients come back; the arrays of the run's modules are as old as the last
 * {@link ResidentParameters.toHost}. The step counts of the components stay here: they are few, and decide what is fed.
 *
 * A device tensor is never written to: an update makes new ones. The state to go back to is therefore the one before the update,
 * kept until the next.
 */

import type { DenoiserBatch, DenoiserOptions, TrainBatch } from "../../denoiser/denoiser.js";
import { branchNames } from "../../denoiser/factors.js";
import { ResidentDenoiser, type ResidentGradients } from "../../denoiser/resident-denoiser.js";
import type { RankPlan } from "../../dylora/index.js";
import { internalError } from "../../errors.js";
import {
  createReader,
  type DeviceSession,
  DeviceTensor,
  type ResidentDevice,
} from "../../runtime/device-session.js";
import { float32, type HostTensor } from "../../runtime/session.js";
import { LossAverages, type LossAveragesState } from "../metrics-averages.js";
import type { FactorState, Optimizer } from "../optimizer/index.js";
import type { RunProgress } from "../run-state.js";
import { activate, type TrainedModule } from "../trained-module.js";
import type { OptimizerRule } from "./optimizer-rules.js";
import type { GoodState, LearningRates, ModuleDraw, ParameterStore } from "./parameter-store.js";
import {
  createNormSession,
  createSumSession,
  createUpdateSession,
  type FactorShape,
  names,
} from "./resident-sessions.js";

export interface ResidentOptions {
  /** Of the denoiser that the run has in any case, for everything but training. */
  denoiser: DenoiserOptions & { readonly device: ResidentDevice };
  modules: readonly TrainedModule[];
  optimizer: Optimizer;
  rule: OptimizerRule;
  plan: RankPlan;
}

type AnyTensor = HostTensor | DeviceTensor;

/** One factor of a module, as the run holds it. */
interface Factor extends FactorShape {
  readonly module: number;
  readonly side: "down" | "up";
  /** What {@link ResidentParameters.toHost} fills. */
  readonly host: { readonly values: Float32Array; readonly state: FactorState };
}

/** By the names of their inputs in the update. */
type State = ReadonlyMap<string, AnyTensor>;

interface Sessions {
  readonly trained: readonly Factor[];
  readonly sum: DeviceSession | null;
  readonly norm: DeviceSession;
  readonly update: DeviceSession;
}

export class ResidentParameters implements ParameterStore {
  readonly isResident = true;
  readonly lastGood: GoodState;
  readonly #options: ResidentOptions;
  readonly #denoiser: ResidentDenoiser;
  readonly #factors: readonly Factor[];
  #state: State;
  /** What {@link GoodState.restore} goes back to. */
  #good: { state: State; steps: Uint32Array[]; step: number; averages: LossAveragesState } | null = null;
  /** Whether the modules' arrays are what the device has. */
  #hostIsCurrent = true;
  /** Sums over the micro-steps so far, by factor name. */
  #gradients = new Map<string, DeviceTensor>();
  /** By factor name: the components that learned in any micro-step. */
  readonly #touched = new Map<string, Set<number>>();
  #sessions: Sessions | null = null;

  constructor(options: ResidentOptions) {
    const { modules, optimizer } = options;
    this.#options = options;
    this.#factors = modules.flatMap((module, index) => factorsOf(module, index, options.plan));
    const ranks = new Map(modules.map(({ factors }) => [factors.target.name, factors.maxRank]));
    this.#denoiser = new ResidentDenoiser(options.denoiser, ranks);
    const state = new Map<string, AnyTensor>();
    for (const { name, rank, width, host } of this.#factors) {
      state.set(names.values(name), float32(host.values, [rank, width]));
      for (const slot of optimizer.slotNames)
        state.set(names.slot(name, slot), float32(host.state.slots[slot]!, [rank, width]));
    }
    this.#state = state;
    this.lastGood = {
      remember: (progress) => this.#remember(progress),
      restore: (progress) => this.#restore(progress),
    };
  }

  async prepare(size: Pick<DenoiserBatch, "count" | "height" | "width">, tokens: number): Promise<void> {
    await this.#denoiser.prepare(size, tokens);
  }

  reset(): void {
    for (const gradient of this.#gradients.values()) gradient.dispose();
    this.#gradients.clear();
    this.#touched.clear();
  }

  async accumulate(batch: TrainBatch, draws: readonly ModuleDraw[]): Promise<Float32Array> {
    const { modules } = this.#options;
    const active = modules.map(({ factors }, index) => {
      const { rank, rows } = draws[index]!;
      const name = branchNames(factors.target);
      return {
        target: factors.target,
        down: this.#state.get(names.values(name.down))!,
        up: this.#state.get(names.values(name.up))!,
        rank,
        scale: activate(factors, rank).scale,
        trainedBegin: rows.begin,
      };
    });
    const { loss, gradients } = await this.#denoiser.gradients(batch, active);
    const trained = this.#factors.filter(({ module }) => gradients.has(targetName(modules[module]!)));
    for (const { name, module } of trained) {
      const rows = this.#touched.get(name) ?? new Set();
      this.#touched.set(name, rows);
      const { begin, end } = draws[module]!.rows;
      for (let row = begin; row < end; row++) rows.add(row);
    }
    await this.#add(trained, gradients);
    return loss;
  }

  async gradientNorm(scale: number): Promise<number> {
    const { trained, norm } = await this.#open();
    const feeds = trained.map(({ name }) => [names.gradient(name), this.#gradients.get(name)!] as const);
    const { host } = await norm.run(Object.fromEntries(feeds));
    return Math.sqrt((host[names.squares]!.data as Float32Array)[0]!) * Math.abs(scale);
  }

  async update(gradientScale: number, learningRates: LearningRates): Promise<void> {
    const { optimizer } = this.#options;
    const { trained, update } = await this.#open();
    const feeds: Record<string, AnyTensor> = {
      [names.gradientScale]: float32(Float32Array.of(gradientScale), []),
    };
    const groups = new Set<string>();
    for (const factor of trained) {
      const { name, group } = factor;
      feeds[names.gradient(name)] = this.#gradients.get(name)!;
      for (const input of stateNames(name, optimizer)) feeds[input] = this.#state.get(input)!;
      if (!groups.has(group)) Object.assign(feeds, this.#columns(factor, learningRates));
      groups.add(group);
    }
    const { device } = await update.run(feeds);
    // Only now: a step that fails counts for nothing.
    for (const { name, host } of trained)
      for (const row of this.#touched.get(name)!) host.state.steps[row]!++;
    const next = new Map(this.#state);
    for (const input of next.keys()) {
      const made = device[names.next(input)];
      if (made !== undefined) next.set(input, made);
    }
    const before = this.#state;
    this.#state = next;
    this.#hostIsCurrent = false;
    this.#disposeUnused(before);
    this.reset();
  }

  async toHost(): Promise<void> {
    if (this.#hostIsCurrent) return;
    const reader = await createReader(this.#options.denoiser.device);
    try {
      for (const { name, host } of this.#factors) {
        const arrays = [
          host.values,
          ...this.#options.optimizer.slotNames.map((slot) => host.state.slots[slot]!),
        ];
        for (const [index, input] of stateNames(name, this.#options.optimizer).entries()) {
          const tensor = this.#state.get(input)!;
          if (tensor instanceof DeviceTensor) arrays[index]!.set(await reader.read(tensor));
        }
      }
    } finally {
      await reader.release();
    }
    this.#hostIsCurrent = true;
  }

  async release(): Promise<void> {
    this.reset();
    const states = [this.#state, ...(this.#good === null ? [] : [this.#good.state])];
    this.#state = new Map();
    this.#good = null;
    for (const state of states) this.#disposeUnused(state);
    await this.#sessions?.sum?.release();
    await this.#sessions?.norm.release();
    await this.#sessions?.update.release();
    await this.#denoiser.release();
  }

  /** Adds a micro-step's gradients, whose memory is this store's from now on. */
  async #add(trained: readonly Factor[], gradients: ReadonlyMap<string, ResidentGradients>): Promise<void> {
    const { modules } = this.#options;
    const arrived = trained.map(
      ({ name, module, side }) => [name, gradients.get(targetName(modules[module]!))![side]] as const,
    );
    if (this.#gradients.size === 0) {
      this.#gradients = new Map(arrived);
      await this.#open();
      return;
    }
    const session = await this.#openSum();
    const feeds: Record<string, AnyTensor> = {};
    for (const [name, gradient] of arrived) {
      feeds[names.sum(name)] = this.#gradients.get(name)!;
      feeds[names.gradient(name)] = gradient;
    }
    const { device } = await session.run(feeds);
    for (const [name, gradient] of arrived) {
      gradient.dispose();
      this.#gradients.get(name)!.dispose();
      this.#gradients.set(name, device[names.next(names.sum(name))]!);
    }
  }

  /** The sessions for the factors that have gradients, which are the same in all steps. */
  async #open(): Promise<Sessions> {
    if (this.#sessions !== null) return this.#sessions;
    const { denoiser, rule, optimizer } = this.#options;
    const trained = this.#factors.filter(({ name }) => this.#gradients.has(name));
    if (trained.length === 0) throw internalError("no factor has a gradient");
    this.#sessions = {
      trained,
      sum: null,
      norm: await createNormSession(denoiser.device, trained),
      update: await createUpdateSession(denoiser.device, trained, rule, optimizer.slotNames),
    };
    return this.#sessions;
  }

  async #openSum(): Promise<DeviceSession> {
    const sessions = await this.#open();
    if (sessions.sum !== null) return sessions.sum;
    const sum = await createSumSession(this.#options.denoiser.device, sessions.trained);
    this.#sessions = { ...sessions, sum };
    return sum;
  }

  /** What the rule needs of each component in the step to come; the same for every factor of a group. */
  #columns({ name, rank, group, module, host }: Factor, learningRates: LearningRates) {
    const { rule, modules } = this.#options;
    const learningRate = learningRates[modules[module]!.factors.target.component];
    const touched = this.#touched.get(name)!;
    const rows = Array.from({ length: rank }, (_, row) =>
      rule.numbers(touched.has(row) ? host.state.steps[row]! + 1 : null, learningRate),
    );
    return Object.fromEntries(
      rule.columns.map((column, index) => {
        const numbers = Float32Array.from(rows, (row) => row[index]!);
        return [names.column(group, column), float32(numbers, [rank, 1])];
      }),
    );
  }

  #remember(progress: RunProgress): void {
    const before = this.#good?.state;
    const steps = this.#factors.map(({ host }) => host.state.steps.slice());
    this.#good = { state: this.#state, steps, step: progress.step, averages: progress.averages.state };
    if (before !== undefined) this.#disposeUnused(before);
  }

  #restore(progress: RunProgress): void {
    if (this.#good === null) return;
    const { state, steps, step, averages } = this.#good;
    const spoilt = this.#state;
    this.#state = state;
    this.#hostIsCurrent = false;
    this.#disposeUnused(spoilt);
    for (const [index, { host }] of this.#factors.entries()) host.state.steps.set(steps[index]!);
    progress.step = step;
    progress.averages = new LossAverages(averages);
  }

  /** Gives back what neither the present state nor the one to go back to consists of. */
  #disposeUnused(state: State): void {
    const used = new Set([...this.#state.values(), ...(this.#good?.state.values() ?? [])]);
    for (const tensor of state.values())
      if (tensor instanceof DeviceTensor && !used.has(tensor)) tensor.dispose();
  }
}

function factorsOf({ factors, down, up }: TrainedModule, module: number, plan: RankPlan): Factor[] {
  const { target, maxRank: rank } = factors;
  const name = branchNames(target);
  // With one draw for all modules, those of one rank have always taken the same steps.
  const group = plan.rankDraw === "step" ? `${target.component} ${rank}` : target.name;
  const factor = (side: "down" | "up", values: Float32Array, state: FactorState): Factor => ({
    ...{ name: name[side], rank, width: values.length / rank, group, module, side },
    host: { values, state },
  });
  return [factor("down", factors.down, down), factor("up", factors.up, up)];
}

function targetName({ factors }: TrainedModule): string {
  return factors.target.name;
}

/** Inputs of the update that are state: values, then slots. */
function stateNames(factor: string, { slotNames }: Optimizer): string[] {
  return [names.values(factor), ...slotNames.map((slot) => names.slot(factor, slot))];
}
