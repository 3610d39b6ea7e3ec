/**
 * sd-scripts' names of data folders: `<repeats>_<class tokens>`, for example `10_sks dog`.
 */

export interface FolderName {
  repeats: number;
  /** Caption of the images that have no caption file; may be empty. */
  classTokens: string;
}

/** What `<repeats>_<class tokens>` says, or null if the name does not start with a repeat count. */
export function parseFolderName(name: string): FolderName | null {
  const match = /^(\d+)(?:_(.*))?$/su.exec(name);
  if (match === null) return null;
  return { repeats: Number(match[1]), classTokens: (match[2] ?? "").trim() };
}

/**
 * The nearest valid name for a folder whose name has no repeat count: `cat` -> `1_cat`, and where a count is there
 * but not in its form or place, `10 cat`, `10-cat`, `10x cat` and `cat_10` -> `10_cat`.
 */
export function suggestFolderName(name: string): string {
  const leading = /^(\d{1,3})x?[\s\-.]+(\D.*)$/su.exec(name);
  if (leading !== null) return `${leading[1]}_${leading[2]}`;
  const trailing = /^(.*\D)_(\d{1,3})$/su.exec(name);
  if (trailing !== null) return `${trailing[2]}_${trailing[1]}`;
  return `1_${name}`;
}
