/** Long series made short: no chart shows ten thousand points. */

export interface SeriesPoint {
  readonly step: number;
  readonly value: number;
}

/** The spread of the values of some neighbouring steps. */
export interface SeriesBand {
  readonly step: number;
  /** 10 % of the values lie below. */
  readonly low: number;
  readonly high: number;
}

/** Every n-th point, so that at most `most` are left; the last one stays. */
export function thinned<Point>(points: readonly Point[], most: number): Point[] {
  const every = Math.ceil(points.length / most);
  return points.filter((_, index) => (points.length - 1 - index) % every === 0);
}

/** Where 80 % of the values of neighbouring steps lie, in `count` groups of steps. */
export function bands(points: readonly SeriesPoint[], count: number): SeriesBand[] {
  const size = Math.ceil(points.length / count);
  return Array.from({ length: Math.ceil(points.length / size) }, (_, index) => {
    const group = points.slice(index * size, (index + 1) * size);
    const values = group.map(({ value }) => value).sort((a, b) => a - b);
    return {
      step: (group[0]!.step + group.at(-1)!.step) / 2,
      low: quantile(values, 0.1),
      high: quantile(values, 0.9),
    };
  });
}

/** @param sorted - ascending, at least one */
export function quantile(sorted: readonly number[], share: number): number {
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(sorted.length - 1, below + 1);
  return sorted[below]! + (place - below) * (sorted[above]! - sorted[below]!);
}

export function median(values: readonly number[]): number {
  return quantile(
    [...values].sort((a, b) => a - b),
    0.5,
  );
}
