/** Hall's transformation: what skewness does to a mean that is measured in its own standard errors. */

/** Third moment about the mean by the third power of the standard deviation, both with divisor n. @param values - not all equal */
export function skewness(values: Float64Array, center: number): number {
  let [squares, cubes] = [0, 0];
  for (const value of values) {
    squares += (value - center) ** 2;
    cubes += (value - center) ** 3;
  }
  return cubes / values.length / (squares / values.length) ** 1.5;
}

/**
 * The t that belongs to the quantile `x` of a symmetric distribution.
 *
 * For a mean of skewed values, `t + γt²/(3√n) + γ²t³/(27n) + γ/(6√n)` is symmetric up to terms of the order 1/n, and rises with
 * t everywhere (Hall 1992, "On the removal of skewness by transformation"). This is its inverse.
 *
 * @param gamma - skewness of the n values
 */
export function skewedQuantile(x: number, gamma: number, n: number): number {
  const a = gamma / Math.sqrt(n);
  // Below this the difference of the cube root and 1 loses all its digits, and x itself is exact to as many.
  if (Math.abs(a) < 1e-8) return x;
  return (3 * (Math.cbrt(1 + a * (x - a / 6)) - 1)) / a;
}
