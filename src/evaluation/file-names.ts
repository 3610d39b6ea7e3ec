/** Short names for files that are shown together. */

import path from "node:path";

/** The shortest end of each path that no other path has; equal paths keep equal names. */
export function shortNames(paths: readonly string[]): string[] {
  const parts = paths.map((file) => path.resolve(file).split(path.sep));
  return parts.map((own, index) => {
    const end = (of: readonly string[], length: number) => of.slice(-length).join("/");
    for (let length = 1; length < own.length; length++) {
      const name = end(own, length);
      const isUnique = parts.every((other, i) => paths[i] === paths[index] || end(other, length) !== name);
      if (isUnique) return name;
    }
    return paths[index]!;
  });
}
