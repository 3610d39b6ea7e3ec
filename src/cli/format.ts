/** Numbers, paths and arguments as people read them on a terminal. */

export * from "../format.js";

/** A path as short as it can be typed: relative to the working directory where it lies inside. */
export function formatPath(path: string, relativeTo = process.cwd()): string {
  const prefix = relativeTo.endsWith("/") || relativeTo.endsWith("\\") ? relativeTo : `${relativeTo}/`;
  const slashed = path.replaceAll("\\", "/");
  const slashedPrefix = prefix.replaceAll("\\", "/");
  return slashed.startsWith(slashedPrefix) && slashed.length > slashedPrefix.length
    ? path.slice(slashedPrefix.length)
    : path;
}

/** A word as it must be typed into a POSIX shell or PowerShell. */
export function quoteArgument(word: string): string {
  return /^[\w./:=@%+,\\-]+$/.test(word) ? word : `"${word.replaceAll('"', '\\"')}"`;
}
