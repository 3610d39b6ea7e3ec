/** Counts and lists in messages. */

export function countImages(count: number): string {
  return count === 1 ? "1 image" : `${count} images`;
}

/** `a, b, c and 4 more`: never a screenful. */
export function listNames(names: readonly string[], shown: number): string {
  const head = names.slice(0, shown).join(", ");
  return names.length <= shown ? head : `${head} and ${names.length - shown} more`;
}
