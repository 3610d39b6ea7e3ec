/**
 * The gradient of one optimizer step: collected over its micro-steps, measured, clipped.
 *
 * Every micro-step may have drawn another rank. The gradient of a step is the sum over its micro-steps divided by their
 * number, a component outside a micro-step's rank counting as zero there: what torch accumulates when the loss is
 * divided by the number of micro-steps. A component is touched if any micro-step gave it gradient.
 */
import type { ComponentRange } from "../../dylora/rank-plan.js";
import { internalError } from "../../errors.js";
import { add, compileKernel, sumOfSquares } from "./simd-kernel.js";

/** Sum of the gradients of neighbouring components over the micro-steps so far. */
export interface TouchedComponents {
  readonly rows: ComponentRange;
  /** `[rows.end - rows.begin, width]`; not yet divided by the number of micro-steps */
  readonly gradient: Float32Array;
}

export class GradientAccumulator {
  readonly #widths: readonly number[];
  /** Per factor: disjoint ranges in ascending order. */
  readonly #touched: TouchedComponents[][];

  /** @param widths - the width of each factor (elements of one component) */
  constructor(widths: readonly number[]) {
    this.#widths = widths;
    this.#touched = widths.map(() => []);
  }

  /**
   * Adds what one micro-step gave a factor. The array is kept, and added to by later micro-steps: it may not be used for
   * anything else before `reset`. (Copying it would cost as much as the optimizer itself.)
   *
   * @param factor - index into `widths`
   * @param gradient - `[rows.end - rows.begin, width]`
   */
  add(factor: number, rows: ComponentRange, gradient: Float32Array): void {
    const width = this.#widths[factor];
    if (width === undefined || gradient.length !== (rows.end - rows.begin) * width) {
      throw internalError(
        `gradient of factor ${factor}: ${gradient.length} elements for components ${rows.begin} to ${rows.end}`,
      );
    }
    const parts = this.#touched[factor]!;
    const overlaps = ({ rows: other }: TouchedComponents) => rows.begin < other.end && other.begin < rows.end;
    const merged = merge([{ rows, gradient }, ...parts.filter(overlaps)], width);
    const separate = parts.filter((part) => !overlaps(part));
    this.#touched[factor] = [...separate, merged].sort((a, b) => a.rows.begin - b.rows.begin);
  }

  /** The components of a factor that have a gradient, ascending. */
  touched(factor: number): readonly TouchedComponents[] {
    return this.#touched[factor]!;
  }

  /**
   * The L2 norm over all gradients of all factors, as `torch.nn.utils.clip_grad_norm_` takes it. Not finite if any gradient
   * is not.
   *
   * @param scale - multiplies every gradient: 1 / the number of micro-steps
   */
  norm(scale: number): number {
    let sum = 0;
    for (const parts of this.#touched) {
      for (const { gradient } of parts) sum += sumOfSquares(gradient);
    }
    return Math.sqrt(sum) * Math.abs(scale);
  }

  /** Forgets everything, for the next step. */
  reset(): void {
    for (const parts of this.#touched) parts.length = 0;
  }
}

/** Keeps a division by a norm of zero away, as torch does. */
const CLIP_EPSILON = 1e-6;

/**
 * The number to multiply gradients with so that their norm is at most `maxNorm` (`--max_grad_norm`; 0 is no limit).
 */
export function clipScale(norm: number, maxNorm: number): number {
  return maxNorm > 0 ? Math.min(1, maxNorm / (norm + CLIP_EPSILON)) : 1;
}

/** One range from the first to the last component of `parts`, which overlap without a gap; reuses the first that covers it. */
function merge(parts: readonly TouchedComponents[], width: number): TouchedComponents {
  const begin = Math.min(...parts.map(({ rows }) => rows.begin));
  const end = Math.max(...parts.map(({ rows }) => rows.end));
  const cover = parts.find(({ rows }) => rows.begin === begin && rows.end === end);
  const gradient = cover?.gradient ?? new Float32Array((end - begin) * width);
  for (const part of parts) {
    if (part === cover) continue;
    const into = gradient.subarray((part.rows.begin - begin) * width, (part.rows.end - begin) * width);
    accumulate({ sum: into, term: part.gradient }, {});
  }
  return { rows: { begin, end }, gradient };
}

const accumulate = compileKernel(["sum", "term"], [], ({ array, store }) => {
  store("sum", add(array("sum"), array("term")));
});
