/** `ss_network_args`: the options of the network as the trainer wrote them, JSON made by Python. */
import { pythonJson } from "./python-text.js";

export const NETWORK_ARGS_KEY = "ss_network_args";

export interface NetworkArgsMetadata {
  readonly args: Readonly<Record<string, string>>;
  /** What is wrong with the key, or null. */
  readonly problem: string | null;
}

/** Reads `ss_network_args`. Trainers write strings; numbers and booleans become strings as Python's `str` makes them. */
export function readNetworkArgs(metadata: Readonly<Record<string, string>>): NetworkArgsMetadata {
  const text = metadata[NETWORK_ARGS_KEY];
  if (text === undefined || text === "None") return { args: {}, problem: null };
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return { args: {}, problem: `${NETWORK_ARGS_KEY} is no JSON: ${text}` };
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    return { args: {}, problem: `${NETWORK_ARGS_KEY} is no JSON object: ${text}` };
  }
  const entries = Object.entries(parsed).map(([key, value]) => [key, argText(value)] as const);
  return { args: Object.fromEntries(entries), problem: null };
}

/** The text for `ss_network_args`. */
export function writeNetworkArgs(args: Readonly<Record<string, string>>): string {
  return pythonJson(args);
}

function argText(value: unknown): string {
  if (typeof value === "string") return value;
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  return typeof value === "number" ? String(value) : JSON.stringify(value);
}
