/** Where the time of a step goes, by kind of operator, from onnxruntime's own profile. */

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Session } from "../../src/runtime/session.js";

export interface OperatorFigures {
  readonly operator: string;
  /** Per warm step. */
  readonly seconds: number;
  /** Of the time of all operators. */
  readonly share: number;
  /** Executions in one step. */
  readonly calls: number;
  /** 10^9 multiplications and additions a second; null for operators that are not about arithmetic. */
  readonly gigaflops: number | null;
}

/** An entry of the profile; times in microseconds. */
interface ProfileEvent {
  readonly cat: string;
  readonly name: string;
  readonly ts: number;
  readonly dur: number;
  readonly args?: {
    readonly op_name?: string;
    readonly input_type_shape?: readonly TypedShape[];
    readonly output_type_shape?: readonly TypedShape[];
  };
}

type TypedShape = Readonly<Record<string, readonly number[]>>;

/** Takes the profile of the next session that is made. */
export class OperatorProfile {
  readonly #folder = mkdtempSync(join(tmpdir(), "dylora-profile-"));
  #session: Session | null = null;

  /** Sessions are made deep inside the denoiser, which has no use for profiles: it is asked for where they all come from. */
  static begin(): OperatorProfile {
    const profile = new OperatorProfile();
    const create = Session.create;
    Session.create = async (model, options) => {
      Session.create = create;
      profile.#session = await Session.create(model, {
        ...options,
        profilePrefix: join(profile.#folder, "step"),
      });
      const { release } = profile.#session;
      profile.#session.release = async function (this: Session) {
        this.endProfiling();
        await release.call(this);
      };
      return profile.#session;
    };
    return profile;
  }

  /** Call when the session is released. The kind of operator that took longest comes first. */
  async end(): Promise<OperatorFigures[]> {
    try {
      const [file] = readdirSync(this.#folder);
      return operatorFigures(JSON.parse(readFileSync(join(this.#folder, file!), "utf8")) as ProfileEvent[]);
    } finally {
      rmSync(this.#folder, { recursive: true, force: true });
    }
  }
}

/** The first execution is left out. */
export function operatorFigures(events: readonly ProfileEvent[]): OperatorFigures[] {
  const runs = events
    .filter(({ cat, name }) => cat === "Session" && name === "model_run")
    .sort((a, b) => a.ts - b.ts);
  const [, firstWarm] = runs;
  const warmRuns = runs.length - 1;
  const kinds = new Map<string, { microseconds: number; calls: number; operations: number | null }>();
  let total = 0;
  for (const { cat, name, ts, dur, args } of events) {
    if (cat !== "Node" || !name.endsWith("_kernel_time") || firstWarm === undefined || ts < firstWarm.ts)
      continue;
    const operator = args?.op_name ?? "?";
    const kind = kinds.get(operator) ?? { microseconds: 0, calls: 0, operations: null };
    const operations = arithmetic(operator, shapes(args?.input_type_shape), shapes(args?.output_type_shape));
    kind.microseconds += dur;
    kind.calls++;
    if (operations !== null) kind.operations = (kind.operations ?? 0) + operations;
    kinds.set(operator, kind);
    total += dur;
  }
  return [...kinds]
    .map(([operator, { microseconds, calls, operations }]) => ({
      operator,
      seconds: microseconds / 1e6 / warmRuns,
      share: microseconds / total,
      calls: calls / warmRuns,
      gigaflops: operations === null ? null : operations / microseconds / 1e3,
    }))
    .sort((a, b) => b.seconds - a.seconds);
}

function shapes(typed: readonly TypedShape[] = []): (readonly number[])[] {
  return typed.map((entry) => Object.values(entry)[0] ?? []);
}

/** Multiplications and additions of a matrix product or convolution. */
function arithmetic(
  operator: string,
  inputs: readonly (readonly number[])[],
  outputs: readonly (readonly number[])[],
): number | null {
  const count = (shape: readonly number[] | undefined) =>
    (shape ?? []).reduce((product, size) => product * size, 1);
  const [a, b] = inputs;
  const [y] = outputs;
  switch (operator) {
    case "MatMul":
      return 2 * count(y) * (a?.at(-1) ?? 0);
    case "Gemm":
      // [M, K] in either order over [M, N].
      return 2 * count(y) * (count(a) / (y?.[0] ?? 1));
    case "Conv":
      return 2 * count(y) * count(b?.slice(1));
    case "ConvTranspose":
      return 2 * count(a) * count(b?.slice(1));
    default:
      return null;
  }
}
