/** Runs many mutated files through all operations. */
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { randomStream } from "../../src/random/stream.js";
import { CORPUS } from "./corpus.js";
import { type Mutation, mutate } from "./mutate.js";
import { mutateText } from "./mutate-values.js";
import { FuzzFailure, OPERATIONS, runOperation } from "./operations.js";

export interface FuzzRange {
  readonly kind: Mutation;
  /** Of the first case. A case is its number: it is the same whatever range it is in. */
  readonly first: number;
  readonly count: number;
}

export interface FuzzReport {
  readonly cases: number;
  /** By operation, how often each outcome came. */
  readonly outcomes: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly slowestMs: number;
  readonly failures: readonly {
    readonly kind: Mutation;
    readonly number: number;
    readonly problem: string;
  }[];
}

/** What PEFT puts beside its files; some cases break it. */
export const PEFT_CONFIG = JSON.stringify({
  peft_type: "LORA",
  r: 2,
  lora_alpha: 4,
  target_modules: ["to_q"],
  rank_pattern: {},
  alpha_pattern: {},
});

function peftConfig(kind: Mutation, number: number): string {
  const random = randomStream(number, "fuzz", kind, "config");
  return kind === "header" || random.int(3) > 0 ? PEFT_CONFIG : mutateText(PEFT_CONFIG, random);
}

/** The mutated file of a number. */
export function fuzzCase(kind: Mutation, number: number): Buffer {
  return mutate(CORPUS[number % CORPUS.length]!, kind, randomStream(number, "fuzz", kind));
}

/**
 * @param folder - where the files go; it is made, and removed at the end
 * @param onCase - called before each case: whoever watches knows where it hangs
 */
export async function runCases(
  folder: string,
  { kind, first, count }: FuzzRange,
  onCase: (number: number) => void = () => undefined,
): Promise<FuzzReport> {
  const outcomes: Record<string, Record<string, number>> = {};
  for (const name of Object.keys(OPERATIONS)) outcomes[name] = {};
  const failures: FuzzReport["failures"][number][] = [];
  const out = join(folder, "out");
  const path = join(folder, "case.safetensors");
  let slowestMs = 0;
  await mkdir(out, { recursive: true });
  for (let number = first; number < first + count; number++) {
    onCase(number);
    const bytes = fuzzCase(kind, number);
    await writeFile(path, bytes);
    await writeFile(join(folder, "adapter_config.json"), peftConfig(kind, number));
    for (const name of Object.keys(OPERATIONS)) {
      const startMs = performance.now();
      try {
        const outcome = await runOperation(name, path, out);
        const counts = outcomes[name]!;
        counts[outcome] = (counts[outcome] ?? 0) + 1;
      } catch (error) {
        if (!(error instanceof FuzzFailure)) throw error;
        failures.push({ kind, number, problem: error.message });
        await rm(out, { recursive: true });
        await mkdir(out);
      }
      slowestMs = Math.max(slowestMs, performance.now() - startMs);
    }
    if (Buffer.compare(await readFile(path), bytes) !== 0) {
      failures.push({ kind, number, problem: "the input was changed" });
    }
  }
  await rm(folder, { recursive: true });
  return { cases: count, outcomes, slowestMs, failures };
}
