/** The decompositions of one difference: each module's factors when it is their turn, and what they cost. */
import type { AdapterModuleSource } from "../../adapter/index.js";
import { throwIfAborted } from "../../io/index.js";
import type { TruncatedFactors } from "../../linalg/index.js";
import type { ModelTarget } from "../merge/model.js";
import type { DiffModule, DiffOptions, DiffRank } from "./diff.js";
import { type LeadingSvd, leadingSvd } from "./svd.js";
import { readDifference, type WeightDifference, type WeightReader } from "./weights.js";

/** A module that differs. */
export interface ChangedTarget {
  readonly target: ModelTarget;
  readonly difference: WeightDifference;
}

interface Decomposed {
  readonly rank: number;
  readonly factors: TruncatedFactors;
}

export class DiffJob {
  readonly #reader: WeightReader;
  readonly #changed: readonly ChangedTarget[];
  readonly #options: DiffOptions;
  readonly #subject: string;
  /** By module name: squared norm of what is lost, and the rank. */
  readonly #outcomes = new Map<string, { readonly rank: number; readonly lost: number }>();

  constructor(
    reader: WeightReader,
    changed: readonly ChangedTarget[],
    options: DiffOptions,
    subject: string,
  ) {
    this.#reader = reader;
    this.#changed = changed;
    this.#options = options;
    this.#subject = subject;
  }

  modules(): DiffModule[] {
    return this.#changed.map(({ target, difference }) => {
      const outcome = this.#outcomes.get(nameOfTarget(target));
      const rank = this.#options.energy == null ? largestRank(target, this.#options) : null;
      return {
        name: nameOfTarget(target),
        component: target.component,
        kind: target.kind,
        rank: outcome?.rank ?? rank,
        relativeChange: relativeChange(difference),
        error: outcome === undefined ? null : Math.sqrt(outcome.lost) / difference.norm,
      };
    });
  }

  totalError(): number {
    const total = this.#changed.reduce((sum, { difference }) => sum + difference.norm ** 2, 0);
    const lost = [...this.#outcomes.values()].reduce((sum, outcome) => sum + outcome.lost, 0);
    return Math.sqrt(lost / total);
  }

  /** What to write: with a fixed rank each module is decomposed when it is its turn. */
  async sources(): Promise<AdapterModuleSource[]> {
    const sources: AdapterModuleSource[] = [];
    for (const changed of this.#changed) {
      const { kind, inFeatures, outFeatures } = changed.target;
      const known = this.#options.energy == null ? null : await this.#decompose(changed);
      const rank = known?.rank ?? largestRank(changed.target, this.#options);
      let pending: Promise<Decomposed> | null = known === null ? null : Promise.resolve(known);
      const decomposed = async () => {
        pending ??= this.#decompose(changed);
        return pending;
      };
      sources.push({
        name: nameOfTarget(changed.target),
        kind,
        rank,
        alpha: rank,
        inFeatures,
        outFeatures,
        down: async () => (await decomposed()).factors.down,
        upT: async () => {
          const { factors } = await decomposed();
          // Written last of the two: the factors are not needed any more.
          pending = null;
          return factors.upT;
        },
      });
    }
    return sources;
  }

  async #decompose({ target, difference }: ChangedTarget): Promise<Decomposed> {
    throwIfAborted(this.#options.signal, this.#subject);
    const rows = target.outFeatures;
    const delta = await readDifference(this.#reader, difference);
    const most = largestRank(target, this.#options);
    const svd = leadingSvd(delta, rows, delta.length / rows, most, nameOfTarget(target));
    const rank = chooseRank(svd, most, difference.norm, this.#options.energy ?? null);
    this.#outcomes.set(nameOfTarget(target), { rank, lost: svd.lostEnergy(rank) });
    this.#options.onProgress?.({
      phase: "decompose",
      doneModules: this.#outcomes.size,
      totalModules: this.#changed.length,
    });
    return { rank, factors: svd.truncate(rank) };
  }
}

/** kohya's usual name for the module. */
function nameOfTarget({ names }: ModelTarget): string {
  return names[0]!;
}

/** A product cannot have a higher rank than its smaller side. */
function largestRank({ kind, inFeatures, outFeatures }: ModelTarget, { rank, convRank }: DiffRank): number {
  const isConv = kind === "conv3x3";
  return Math.min((isConv ? convRank : null) ?? rank, outFeatures, inFeatures * (isConv ? 9 : 1));
}

/** The lowest rank that keeps the share of the energy, up to the largest one. */
function chooseRank(
  { singularValues }: LeadingSvd,
  most: number,
  norm: number,
  energy: number | null,
): number {
  if (energy === null) return most;
  let kept = 0;
  for (let rank = 1; rank < most; rank++) {
    kept += singularValues[rank - 1]! ** 2;
    if (kept >= energy * norm ** 2) return rank;
  }
  return most;
}

/** `norm(tuned - base) / norm(base)`; null where the base's weight is zero. */
export function relativeChange({
  norm,
  baseNorm,
}: Pick<WeightDifference, "norm" | "baseNorm">): number | null {
  return baseNorm === 0 ? null : norm / baseNorm;
}
