/** File names of copies, from a pattern. */
import { basename } from "node:path";
import { DyloraError } from "../../errors.js";

/** What `{…}` in a pattern stands for; null where this copy has no such value, and why. */
export type NameValues = Readonly<Record<string, string | { readonly missing: string }>>;

const PLACEHOLDER = /\{([^{}]*)\}/g;

/**
 * A file name without its ending: each `{…}` of the pattern replaced. A pattern may end with `.safetensors`.
 *
 * @throws {DyloraError} `E_USAGE` for an unknown placeholder, one without a value, and a name that is none or that would
 *   lie in another folder
 */
export function nameFromPattern(pattern: string, values: NameValues, subject: string): string {
  const name = pattern.replace(/\.safetensors$/i, "").replace(PLACEHOLDER, (placeholder, key: string) => {
    const value = Object.hasOwn(values, key) ? values[key] : undefined;
    if (value === undefined) {
      const known = Object.keys(values).map((word) => `{${word}}`);
      throw nameError(
        `${subject}: the name pattern ${JSON.stringify(pattern)} has an unknown ${placeholder}`,
        {
          advice: `Known are ${known.join(", ")}.`,
        },
      );
    }
    if (typeof value !== "string") {
      throw nameError(`${subject}: ${placeholder} in the name pattern has no value: ${value.missing}`);
    }
    return value;
  });
  if (basename(name) !== name || name.includes("\0") || ["", ".", ".."].includes(name)) {
    throw nameError(
      `${subject}: the name pattern ${JSON.stringify(pattern)} gives ${JSON.stringify(name)}, which is no file name`,
      { advice: "Choose the folder with --out." },
    );
  }
  return name;
}

/**
 * Checks that no two copies have one name. Names that differ in case alone are one file on some disks.
 *
 * @throws {DyloraError} `E_USAGE`
 */
export function checkNamesDiffer(names: readonly string[], subject: string): void {
  const seen = new Set<string>();
  for (const name of names) {
    const key = name.normalize("NFC").toLowerCase();
    if (seen.has(key)) {
      throw nameError(`${subject}: more than one of the ${names.length} files would be called ${name}`, {
        advice: "Put what they differ in into --name: {rank}, or {unet} and {te}.",
      });
    }
    seen.add(key);
  }
}

function nameError(message: string, { advice }: { advice?: string } = {}): DyloraError {
  return new DyloraError("E_USAGE", message, {
    note: advice === undefined ? "Nothing was written." : `Nothing was written. ${advice}`,
  });
}
