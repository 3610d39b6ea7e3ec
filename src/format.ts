/** Numbers as people read them, on the terminal and in reports. */

const SIZE_UNITS = ["B", "kB", "MB", "GB", "TB"] as const;

/** `812 kB`, `5.1 GB`: decimal units, two to three digits. */
export function formatBytes(bytes: number): string {
  if (!Number.isFinite(bytes)) return "?";
  let value = Math.abs(bytes);
  let unit = 0;
  // 999.5 would print as "1000".
  while (value >= 999.5 && unit < SIZE_UNITS.length - 1) {
    value /= 1000;
    unit++;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : 1;
  return `${bytes < 0 ? "-" : ""}${value.toFixed(digits)} ${SIZE_UNITS[unit]}`;
}

/** `0.8s`, `45s`, `59m`, `1h 02m`, `2d 03h`: the two largest units that matter. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds < 0) return "?";
  if (seconds < 9.95) return `${seconds.toFixed(1)}s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole}s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 10) return `${minutes}m ${pad(whole % 60)}s`;
  if (minutes < 60) return `${Math.round(whole / 60) === 60 ? 59 : Math.round(whole / 60)}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours}h ${pad(minutes % 60)}m`;
  return `${Math.floor(hours / 24)}d ${pad(hours % 24)}h`;
}

/** `1.9 s/it`, and `12 it/s` for steps below a second. */
export function formatRate(secondsPerStep: number): string {
  if (!Number.isFinite(secondsPerStep) || secondsPerStep <= 0) return "?";
  if (secondsPerStep >= 1) return `${secondsPerStep.toFixed(secondsPerStep < 99.95 ? 1 : 0)} s/it`;
  const rate = 1 / secondsPerStep;
  return `${rate.toFixed(rate < 9.95 ? 1 : 0)} it/s`;
}

/** Four digits after the point, or four significant ones for very small losses. */
export function formatLoss(loss: number): string {
  if (!Number.isFinite(loss)) return String(loss);
  return loss !== 0 && Math.abs(loss) < 0.001 ? loss.toExponential(3) : loss.toFixed(4);
}

/**
 * `+0.0012`, `-0.00031`: a difference always shows its sign.
 *
 * @param largest - the largest magnitude that stands beside it: gets three digits, with four to eight after the point
 */
export function formatDifference(value: number, largest: number): string {
  const magnitude = largest === 0 ? 0 : Math.floor(Math.log10(Math.abs(largest)));
  const text = value.toFixed(Math.min(8, Math.max(4, 2 - magnitude)));
  return value > 0 ? `+${text}` : text;
}

/** `1.0e-4`. */
export function formatLearningRate(rate: number): string {
  return rate === 0 ? "0" : rate.toExponential(1);
}

/** `3,188,736`. */
export function formatCount(count: number): string {
  // Intl would load its tables for this: 20 ms, a tenth of what `dylora inspect` takes.
  return String(count).replace(/\B(?=(?:\d{3})+$)/g, ",");
}

/** `1 image`, `12 images`. */
export function formatQuantity(count: number, noun: string, plural = `${noun}s`): string {
  return `${formatCount(count)} ${count === 1 ? noun : plural}`;
}

/** `0.36 %`; never rounds something to nothing. */
export function formatPercent(percent: number): string {
  if (percent !== 0 && Math.abs(percent) < 0.01) return `${percent.toExponential(1)} %`;
  return `${percent.toFixed(Math.abs(percent) < 10 ? 2 : 1)} %`;
}

/** `8`, `4-16` for several ranks. */
export function formatRanks(ranks: readonly number[]): string {
  const first = ranks[0];
  const last = ranks[ranks.length - 1];
  if (first === undefined || last === undefined) return "-";
  return first === last ? String(first) : `${first}-${last}`;
}

/** With a capital at its beginning. */
export function capitalized(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function pad(value: number): string {
  return String(value).padStart(2, "0");
}
