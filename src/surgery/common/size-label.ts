/** Sizes in file names. */

const UNITS = [
  ["GB", 1e9],
  ["MB", 1e6],
  ["MiB", 2 ** 20],
  ["kB", 1e3],
  ["B", 1],
] as const;

/** `50MB`, `48MiB`, `123456B`: in the largest unit that has no decimals. */
export function sizeLabel(bytes: number): string {
  const [unit, size] = UNITS.find((candidate) => bytes % candidate[1] === 0)!;
  return `${bytes / size}${unit}`;
}
