/** What models compute from their weights alone, once for all sessions that read it. */

import type { PreparedWeight } from "../../graph/onnx/preparation.js";
import { float32, type HostTensor } from "../session.js";
import { prepareWeights } from "./prepare-weights.js";

/**
 * Prepared weights in the memory of the process. They are kept until {@link PreparedWeights.release}: sessions for other sizes and
 * purposes need nearly the same ones, and preparing them takes longer than everything else about a session.
 */
export class PreparedWeights {
  readonly #known = new Map<string, HostTensor>();
  #pending: Promise<unknown> = Promise.resolve();

  has(key: string): boolean {
    return this.#known.has(key);
  }

  /**
   * The inputs of a model by name, those computed that are not there yet.
   *
   * @throws {DyloraError} `E_READ`
   */
  async of(weights: readonly PreparedWeight[]): Promise<Record<string, HostTensor>> {
    // One after the other: two sessions that are made at the same time shall not prepare the same weights.
    const prepared = this.#pending.then(() => this.#prepare(weights));
    this.#pending = prepared.catch(() => {});
    await prepared;
    return Object.fromEntries(weights.map(({ key, tensor }) => [tensor.name, this.#known.get(key)!]));
  }

  /** Forgets all; sessions that read them keep theirs. */
  release(): void {
    this.#known.clear();
  }

  async #prepare(weights: readonly PreparedWeight[]): Promise<void> {
    const missing = weights.filter(({ key }) => !this.#known.has(key));
    const values = await prepareWeights(missing.map(({ recipe }) => recipe));
    for (const [index, { key, recipe }] of missing.entries()) {
      this.#known.set(key, float32(values[index]!, recipe.shape));
    }
  }
}
