/** Whether linear combinations of rows may be computed in float32. */
import type { NumberFormat } from "./number-formats.js";

/** Unit roundoff of float32. */
const SINGLE_EPSILON = 2 ** -24;

/** Largest relative error of a rounded number. Nothing is lost on a float32, so it is never computed in float32. */
const ROUNDING: Readonly<Record<NumberFormat, number>> = { F16: 2 ** -11, BF16: 2 ** -8, F32: 0 };

/** Numbers beyond are near the end of float32's range, on either side. */
const [SMALLEST, LARGEST] = [2 ** -60, 2 ** 60];

/** `C X`, with what is known of it. */
export interface Combinations {
  /** C, `[count, rows]` */
  readonly coefficients: Float64Array;
  /** Norms of the rows of X, at least. */
  readonly rowNorms: Float64Array;
  /** Norms of the rows of C X. */
  readonly norms: Float64Array;
}

/**
 * Row j of `C X` is the sum of `R` terms `c_ji x_i`. In float32 each of them is rounded twice, with its coefficient and as a product, and
 * at most `R` times in sums: to first order the error of an element is at most `(R + 1) 2^-24 Σ |c_ji x_i|`, and so the error of the
 * row has at most the norm `(R + 1) 2^-24 Σ |c_ji| ‖x_i‖`. This is compared with what the rounding to the format does to the row.
 *
 * Roundings fall on either side: for 128 rows of random numbers the error is a hundredth of the bound.
 *
 * @see Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 3.1
 */
export function singleSuffices(
  { coefficients, rowNorms, norms }: Combinations,
  format: NumberFormat,
): boolean {
  const rows = rowNorms.length;
  if (Math.max(...rowNorms) > LARGEST) return false;
  for (let j = 0; j < norms.length; j++) {
    const norm = norms[j]!;
    let [terms, largest] = [0, 0];
    for (let i = 0; i < rows; i++) {
      const size = Math.abs(coefficients[j * rows + i]!);
      terms += size * rowNorms[i]!;
      largest = Math.max(largest, size);
    }
    if (!(norm >= SMALLEST && largest <= LARGEST)) return false;
    if ((rows + 1) * SINGLE_EPSILON * terms > ROUNDING[format] * norm) return false;
  }
  return true;
}
