/**
 * Singular values and right singular vectors of a small matrix, in float64.
 *
 * Golub and Kahan: to bidiagonal form by Householder reflections, then implicit QR steps, with Demmel and Kahan's zero shift
 * for values that are zero. Values are exact to about `n · 2^-53` of the largest one.
 *
 * @see Golub & Van Loan, Matrix Computations, 4th ed., 8.6; Demmel & Kahan 1990 (SIAM J. Sci. Stat. Comput. 11, 873-912)
 */
import { internalError } from "../errors.js";
import { makeReflector } from "./householder.js";
import { address, kernels, workspace } from "./kernels.js";
import { LANES, roundUp, rowStride } from "./layout.js";

export interface SmallSvd {
  /** Descending, `min(rows, columns)` of them. */
  readonly values: Float64Array;
  /** `[values, columns]`: row j is the right singular vector of value j; null where only values were asked for. */
  readonly rightVectors: Float64Array | null;
}

/** Unit roundoff of float64. */
const EPSILON = 2 ** -53;

/** An element right of the diagonal this small beside the norm is zero: rounding alone keeps it at a few roundoffs. */
const NEGLIGIBLE = 16 * EPSILON;

/** Two steps per value are usual; LAPACK gives up after 6 n of its sweeps. */
const MAX_STEPS_PER_VALUE = 30;

/**
 * @param a - `[rows, columns]`, finite
 * @param withVectors - whether vectors are needed; without them the work is about a third
 */
export function smallSvd(a: Float64Array, rows: number, columns: number, withVectors: boolean): SmallSvd {
  // Rows of zeros change neither values nor right vectors.
  const n = Math.max(rows, columns);
  const stride = rowStride(n);
  const layout: Layout = {
    n,
    stride,
    vectors: n * stride,
    scratch: (withVectors ? 2 : 1) * n * stride,
  };
  const memory = workspace(layout.scratch + 4 * stride);
  memory.fill(0, 0, layout.scratch + 4 * stride);
  for (let i = 0; i < rows; i++) memory.set(a.subarray(i * columns, (i + 1) * columns), i * stride);

  const bidiagonal = bidiagonalise(memory, layout);
  if (withVectors) accumulateVectors(memory, layout, bidiagonal.betas);
  iterate(memory, layout, bidiagonal, withVectors);

  const count = Math.min(rows, columns);
  const { diagonal } = bidiagonal;
  const order = Array.from(diagonal.keys()).sort((i, j) => Math.abs(diagonal[j]!) - Math.abs(diagonal[i]!));
  const values = Float64Array.from(order.slice(0, count), (i) => Math.abs(diagonal[i]!));
  if (!withVectors) return { values, rightVectors: null };
  const rightVectors = new Float64Array(count * columns);
  for (let j = 0; j < count; j++) {
    const from = layout.vectors + order[j]! * stride;
    rightVectors.set(memory.subarray(from, from + columns), j * columns);
  }
  return { values, rightVectors };
}

/** Where things are in the workspace. The matrix is at 0. */
interface Layout {
  readonly n: number;
  readonly stride: number;
  readonly vectors: number;
  /** Two rows for a reflector and its products; one row pair for rotations. */
  readonly scratch: number;
}

interface Bidiagonal {
  readonly diagonal: Float64Array;
  /** Element i is right of diagonal element i. */
  readonly upper: Float64Array;
  /** Of the reflections from the right; their vectors are in the rows of the matrix. */
  readonly betas: Float64Array;
}

/** `A = U B Vᵀ`, U not kept. Behind it row j of the matrix holds the reflection that cleared the row. */
function bidiagonalise(memory: Float64Array, { n, stride, scratch }: Layout): Bidiagonal {
  const diagonal = new Float64Array(n);
  const upper = new Float64Array(Math.max(0, n - 1));
  const betas = new Float64Array(n);
  const column = memory.subarray(scratch, scratch + n);
  const end = roundUp(n, LANES);
  for (let j = 0; j < n; j++) {
    for (let i = j; i < n; i++) column[i] = memory[i * stride + j]!;
    const left = makeReflector(column, j);
    diagonal[j] = left.diagonal;
    if (j === n - 1) break;
    // Whole vectors: what is left of column j + 1 in these rows is never read again.
    const begin = j + 1 - ((j + 1) % LANES);
    if (left.beta !== 0) {
      kernels.reflectColumns(
        address(scratch + j),
        address(j * stride + begin),
        address(n * stride + begin),
        address(stride),
        address(scratch + stride),
        address(scratch + stride + end - begin),
        left.beta,
      );
    }
    const row = memory.subarray(j * stride, j * stride + n);
    if (j === n - 2) {
      upper[j] = row[j + 1]!;
      continue;
    }
    const right = makeReflector(row, j + 1);
    upper[j] = right.diagonal;
    betas[j] = right.beta;
    if (right.beta !== 0) reflectBehind(j, { n, stride }, 0, right.beta);
  }
  return { diagonal, upper, betas };
}

/** Applies the reflection in row j to the rows behind it of the matrix at `start`. */
function reflectBehind(
  j: number,
  { n, stride }: Pick<Layout, "n" | "stride">,
  start: number,
  beta: number,
): void {
  const begin = j + 1 - ((j + 1) % LANES);
  kernels.reflectRows(
    address(j * stride + begin),
    address(j * stride + roundUp(n, LANES)),
    address(start + (j + 1) * stride + begin),
    address(start + n * stride + begin),
    address(stride),
    beta,
  );
}

/** `Vᵀ` of the bidiagonal form. */
function accumulateVectors(memory: Float64Array, { n, stride, vectors }: Layout, betas: Float64Array): void {
  for (let j = 0; j < n; j++) memory[vectors + j * stride + j] = 1;
  for (let j = n - 3; j >= 0; j--) {
    if (betas[j] !== 0) reflectBehind(j, { n, stride }, vectors, betas[j]!);
  }
}

/** Drives the elements right of the diagonal to zero, and turns the vectors accordingly. */
function iterate(
  memory: Float64Array,
  { n, stride, vectors, scratch }: Layout,
  { diagonal: d, upper: e }: Bidiagonal,
  withVectors: boolean,
): void {
  const rotations = memory.subarray(scratch, scratch + 2 * n);
  let norm = 0;
  for (let i = 0; i < n; i++) norm = Math.max(norm, Math.abs(d[i]!) + Math.abs(e[i] ?? 0));
  if (!Number.isFinite(norm)) throw internalError("singular values of a matrix that is not finite");
  const negligible = NEGLIGIBLE * norm;

  let last = n - 1;
  let stepsLeft = MAX_STEPS_PER_VALUE * n;
  while (last > 0) {
    if (Math.abs(e[last - 1]!) <= negligible) {
      e[--last] = 0;
      continue;
    }
    // The block that ends at `last` and is not decoupled yet.
    let first = last - 1;
    while (first > 0 && Math.abs(e[first - 1]!) > negligible) first--;
    if (stepsLeft-- === 0) throw internalError(`singular values of a ${n} x ${n} matrix did not converge`);
    const shift = chooseShift(d, e, first, last, negligible);
    if (shift === 0) stepWithoutShift(d, e, first, last, rotations);
    else stepWithShift(d, e, first, last, shift, rotations);
    if (withVectors) {
      kernels.rotateRows(
        address(vectors + first * stride),
        address(vectors + first * stride + roundUp(n, LANES)),
        address(stride),
        address(scratch),
        address(scratch + 2 * (last - first)),
      );
    }
  }
}

/** The smaller singular value of the last 2 x 2 block, or 0 where a shift would not be felt or a value is zero already. */
function chooseShift(
  d: Float64Array,
  e: Float64Array,
  first: number,
  last: number,
  negligible: number,
): number {
  for (let i = first; i <= last; i++) if (Math.abs(d[i]!) <= negligible) return 0;
  const f = Math.abs(d[last - 1]!);
  const g = Math.abs(e[last - 1]!);
  const h = Math.abs(d[last]!);
  // Largest value of [[f, g], [0, h]] from its Frobenius norm and determinant; the smaller one is |det| / largest.
  const sum = Math.sqrt((f + h) ** 2 + g * g);
  const difference = Math.sqrt((f - h) ** 2 + g * g);
  const shift = (2 * f * h) / (sum + difference);
  return (shift / d[first]!) ** 2 <= EPSILON ? 0 : shift;
}

/** One implicit QR step; `rotations` gets the cosines and sines that act on the right vectors. */
function stepWithShift(
  d: Float64Array,
  e: Float64Array,
  first: number,
  last: number,
  shift: number,
  rotations: Float64Array,
): void {
  const start = d[first]!;
  let f = (Math.abs(start) - shift) * (Math.sign(start) + shift / start);
  let g = e[first]!;
  for (let i = first, k = 0; i < last; i++, k += 2) {
    let r = Math.sqrt(f * f + g * g);
    let c = r === 0 ? 1 : f / r;
    let s = r === 0 ? 0 : g / r;
    if (i > first) e[i - 1] = r;
    rotations[k] = c;
    rotations[k + 1] = s;
    f = c * d[i]! + s * e[i]!;
    e[i] = c * e[i]! - s * d[i]!;
    g = s * d[i + 1]!;
    d[i + 1] = c * d[i + 1]!;

    r = Math.sqrt(f * f + g * g);
    c = r === 0 ? 1 : f / r;
    s = r === 0 ? 0 : g / r;
    d[i] = r;
    f = c * e[i]! + s * d[i + 1]!;
    d[i + 1] = c * d[i + 1]! - s * e[i]!;
    if (i < last - 1) {
      g = s * e[i + 1]!;
      e[i + 1] = c * e[i + 1]!;
    }
  }
  e[last - 1] = f;
}

/** The same without a shift, in a form that keeps small values exact. */
function stepWithoutShift(
  d: Float64Array,
  e: Float64Array,
  first: number,
  last: number,
  rotations: Float64Array,
): void {
  let [c, previousC, previousS] = [1, 1, 0];
  for (let i = first, k = 0; i < last; i++, k += 2) {
    const f = d[i]! * c;
    const g = e[i]!;
    const r = Math.sqrt(f * f + g * g);
    c = r === 0 ? 1 : f / r;
    const s = r === 0 ? 0 : g / r;
    if (i > first) e[i - 1] = previousS * r;
    rotations[k] = c;
    rotations[k + 1] = s;

    const left = previousC * r;
    const right = d[i + 1]! * s;
    const length = Math.sqrt(left * left + right * right);
    previousC = length === 0 ? 1 : left / length;
    previousS = length === 0 ? 0 : right / length;
    d[i] = length;
  }
  const h = d[last]! * c;
  d[last] = h * previousC;
  e[last - 1] = h * previousS;
}
