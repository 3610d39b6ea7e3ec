/**
 * PEFT's `rank_pattern` and `alpha_pattern`: values by module path.
 *
 * A key is a Python regular expression that must match the end of a path, from a dot or the start on
 * (`(.*\.)?(KEY)$`); the first key that does counts. Most keys are plain paths or their last parts.
 *
 * @see `get_pattern_key` in peft/utils/other.py
 */
import { DyloraError } from "../errors.js";

interface PatternValue {
  readonly index: number;
  readonly value: number;
}

/** Repetitions in a key that are still matched in no noticeable time, whatever a malicious file asks for. */
const MAX_REPETITIONS = 2;
const MAX_EXPRESSIONS = 64;

export class PathPatterns {
  /** Keys that are no expressions: the end of a path, from a dot on. */
  readonly #tails = new Map<string, PatternValue>();
  /** Keys that begin with `^`: a whole path. */
  readonly #whole = new Map<string, PatternValue>();
  readonly #expressions: (PatternValue & { readonly expression: RegExp })[] = [];

  /**
   * @param subject - for errors: `read …: rank_pattern`
   * @throws {DyloraError} `E_INCOMPATIBLE` for an expression that is not understood
   */
  constructor(entries: Iterable<readonly [key: string, value: number]>, subject: string) {
    let index = 0;
    for (const [key, value] of entries) {
      const entry = { index: index++, value };
      const plain = key.replaceAll("\\.", ".");
      if (/^\^?[\w.-]+$/.test(plain)) {
        const table = plain.startsWith("^") ? this.#whole : this.#tails;
        const path = plain.replace("^", "");
        if (!table.has(path)) table.set(path, entry);
      } else {
        this.#expressions.push({ ...entry, expression: compile(key, subject) });
        if (this.#expressions.length > MAX_EXPRESSIONS) {
          throw unknownPattern(`${subject} has more than ${MAX_EXPRESSIONS} regular expressions`);
        }
      }
    }
  }

  /** The value of the first key that matches, or null. */
  find(path: string): number | null {
    let best = this.#whole.get(path) ?? null;
    const consider = (candidate: PatternValue | undefined) => {
      if (candidate !== undefined && (best === null || candidate.index < best.index)) best = candidate;
    };
    consider(this.#tails.get(path));
    for (let dot = path.indexOf("."); dot >= 0; dot = path.indexOf(".", dot + 1)) {
      consider(this.#tails.get(path.slice(dot + 1)));
    }
    for (const entry of this.#expressions) if (entry.expression.test(path)) consider(entry);
    return best === null ? null : (best as PatternValue).value;
  }
}

function compile(key: string, subject: string): RegExp {
  const repetitions = key.match(/[*+{]/g)?.length ?? 0;
  if (repetitions > MAX_REPETITIONS || /\)[*+{]/.test(key)) {
    throw unknownPattern(
      `${subject} has the regular expression ${JSON.stringify(key)}, with too many repetitions`,
    );
  }
  try {
    return new RegExp(`^(?:.*\\.)?(?:${key})$`);
  } catch (cause) {
    throw unknownPattern(`${subject} has ${JSON.stringify(key)}, which is no regular expression`, cause);
  }
}

function unknownPattern(message: string, cause?: unknown): DyloraError {
  return new DyloraError("E_INCOMPATIBLE", message, {
    note: "The file was not changed. dylora reads patterns that are paths, ends of paths, or simple expressions.",
    cause,
  });
}
