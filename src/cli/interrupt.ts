/** Ctrl-C: the first one asks the command to stop in good order, the second one ends the process at once. */

export const INTERRUPTED_EXIT_CODE = 130;

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export interface Interruption {
  readonly signal: AbortSignal;
  /** Gives the signals back to the process. */
  dispose(): void;
}

/** The part of `process` that is used here. */
export interface SignalSource {
  on(signal: NodeJS.Signals, listener: () => void): unknown;
  off(signal: NodeJS.Signals, listener: () => void): unknown;
  exit(status: number): unknown;
}

/** @param onFirst - called once, when the user asks for the first time */
export function listenForInterrupts(onFirst: () => void, source: SignalSource = process): Interruption {
  const controller = new AbortController();
  const listener = () => {
    if (controller.signal.aborted) {
      source.exit(INTERRUPTED_EXIT_CODE);
      return;
    }
    onFirst();
    controller.abort();
  };
  for (const name of SIGNALS) source.on(name, listener);
  return {
    signal: controller.signal,
    dispose() {
      for (const name of SIGNALS) source.off(name, listener);
    },
  };
}
