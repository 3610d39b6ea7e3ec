/** Saves a run's LoRA files and states, and takes old ones away. */

import { rm } from "node:fs/promises";
import type { TrainConfig } from "./config.js";
import type { TrainedFile, TrainHooks } from "./events.js";
import type { PreparedRun } from "./prepare.js";
import { type SavePoint, statePath, weightsPath } from "./run-files.js";
import { type RunProgress, saveRunState } from "./run-state.js";
import { ModelHashes, saveWeights, type WeightsContext } from "./save-weights.js";

interface SavedAtStep {
  readonly path: string;
  readonly step: number;
}

export class Saver {
  readonly #run: PreparedRun;
  readonly #progress: RunProgress;
  readonly #identities: Readonly<Record<string, string>>;
  readonly #hooks: TrainHooks;
  readonly #hashes = new ModelHashes();
  readonly #files = new Map<string, TrainedFile>();
  #stepWeights: SavedAtStep[] = [];
  #stepStates: SavedAtStep[] = [];

  constructor(
    run: PreparedRun,
    progress: RunProgress,
    identities: Readonly<Record<string, string>>,
    hooks: TrainHooks,
  ) {
    this.#run = run;
    this.#progress = progress;
    this.#identities = identities;
    this.#hooks = hooks;
  }

  /** What lies there now, in the order of writing. */
  get files(): TrainedFile[] {
    return [...this.#files.values()];
  }

  /** The LoRA file, and the state if `--save_state`. */
  async save(point: SavePoint): Promise<{ weights: string; state: string | null }> {
    const weights = await this.saveWeights(point);
    const state = this.#config.saveState ? await this.saveState(point) : null;
    await this.#prune(point);
    return { weights, state };
  }

  async saveWeights(point: SavePoint): Promise<string> {
    const { step } = this.#progress;
    const path = weightsPath(this.#config.outputDir, this.#config.outputName, point);
    const { batches, network } = this.#run;
    const epoch = batches.sampler.plan.epochsCompleted(step * this.#config.gradientAccumulationSteps);
    const { sizeBytes } = await saveWeights(path, network, this.#context(), this.#hashes, { step, epoch });
    this.#saved("weights", path, sizeBytes);
    if (point.kind === "step") this.#stepWeights.push({ path, step });
    return path;
  }

  async saveState(point: SavePoint): Promise<string> {
    const { step } = this.#progress;
    const path = statePath(this.#config.outputDir, this.#config.outputName, point);
    const { sizeBytes } = await saveRunState(path, this.#run, this.#progress, this.#identities);
    this.#saved("state", path, sizeBytes);
    if (point.kind === "step") this.#stepStates.push({ path, step });
    return path;
  }

  get #config(): TrainConfig {
    return this.#run.config;
  }

  #saved(kind: "weights" | "state", path: string, sizeBytes: number): void {
    this.#files.delete(path);
    this.#files.set(path, { kind, path, sizeBytes });
    this.#hooks.onEvent({ type: "saved", kind, step: this.#progress.step, path, sizeBytes });
  }

  /**
   * `--save_last_n_steps`, `--save_last_n_steps_state`: what is older goes, as in sd-scripts. Only what this process saved,
   * and only once the new one lies there.
   */
  async #prune(point: SavePoint): Promise<void> {
    if (point.kind !== "step") return;
    const { saveLastNSteps, saveLastNStepsState } = this.#config;
    this.#stepWeights = await this.#keepSince(this.#stepWeights, saveLastNSteps);
    this.#stepStates = await this.#keepSince(this.#stepStates, saveLastNStepsState ?? saveLastNSteps);
  }

  async #keepSince(saved: readonly SavedAtStep[], lastSteps: number | null): Promise<SavedAtStep[]> {
    if (lastSteps === null) return [...saved];
    const oldest = this.#progress.step - lastSteps;
    for (const { path } of saved.filter(({ step }) => step < oldest)) {
      await rm(path, { recursive: true, force: true });
      this.#files.delete(path);
    }
    return saved.filter(({ step }) => step >= oldest);
  }

  #context(): WeightsContext {
    const { startedAt, sessionId } = this.#progress;
    return { ...this.#run, startedAt, sessionId };
  }
}
