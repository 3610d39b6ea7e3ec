/** Another trainer's step, timed beside ours. */

import { spawn } from "node:child_process";
import { DyloraError } from "../../src/errors.js";
import type { StepConfiguration } from "./configuration.js";
import type { Measurement } from "./measurement.js";

/** What the command printed last, whole. */
export interface PeerFigures {
  readonly command: string;
  readonly medianSeconds: number;
  readonly peakBytes: number;
  /** Our median against theirs: above 1, we are faster. */
  readonly timesAsFast: number;
  /** Our peak against theirs: below 1, we need less. */
  readonly memoryRatio: number;
  readonly [key: string]: unknown;
}

type LastLine = Record<string, unknown> & { readonly medianSeconds: number; readonly peakBytes: number };

/** Runs peers' commands; the same command once. */
export class Peer {
  readonly #command: string;
  readonly #known = new Map<string, Promise<LastLine>>();

  /**
   * @param command - for the shell; `{res}`, `{rank}`, `{unit}`, `{alpha}`, `{batch}`, `{steps}` and `{threads}` in it are
   *   replaced by the configuration's. It prints one JSON object per step and a last one with `medianSeconds` and
   *   `peakBytes`.
   */
  constructor(command: string) {
    this.#command = command;
  }

  /** @throws {DyloraError} `E_USAGE` when the command fails or does not print what it should */
  async compare(
    configuration: StepConfiguration,
    ours: Measurement,
    onProgress: (text: string) => void,
  ): Promise<PeerFigures> {
    const command = fillIn(this.#command, configuration);
    const theirs = this.#known.get(command) ?? run(command, onProgress);
    this.#known.set(command, theirs);
    const last = await theirs;
    return {
      command,
      ...last,
      timesAsFast: last.medianSeconds / ours.medianSeconds,
      memoryRatio: ours.peakBytes / last.peakBytes,
    };
  }
}

function fillIn(command: string, configuration: StepConfiguration): string {
  const { resolution, rank, unit, alpha, batch, steps, threads } = configuration;
  const values = { res: resolution, rank, unit, alpha, batch, steps, threads };
  return Object.entries(values).reduce(
    (text, [name, value]) => text.replaceAll(`{${name}}`, String(value)),
    command,
  );
}

function run(command: string, onProgress: (text: string) => void): Promise<LastLine> {
  const failed = (problem: string) =>
    new DyloraError("E_USAGE", `run the peer: ${problem}`, { note: `The command was: ${command}` });
  return new Promise((resolve, reject) => {
    const child = spawn(command, { shell: true, stdio: ["ignore", "pipe", "inherit"] });
    let stdout = "";
    let shown = 0;
    child.stdout.on("data", (part: Buffer) => {
      stdout += part.toString();
      const lines = stdout.split("\n").slice(0, -1);
      for (const line of lines.slice(shown)) onProgress(`peer: ${line}`);
      shown = lines.length;
    });
    child.on("error", (error) => reject(failed(error.message)));
    child.on("close", (code, signal) => {
      if (code !== 0) {
        reject(failed(`it ended with ${signal === null ? `exit status ${code}` : `signal ${signal}`}`));
        return;
      }
      const line = stdout.trim().split("\n").at(-1) ?? "";
      const last = parseLast(line);
      if (last === null) reject(failed(`its last line has no medianSeconds and peakBytes: ${line}`));
      else resolve(last);
    });
  });
}

function parseLast(line: string): LastLine | null {
  try {
    const value = JSON.parse(line) as LastLine;
    return Number.isFinite(value.medianSeconds) && Number.isFinite(value.peakBytes) ? value : null;
  } catch {
    return null;
  }
}
