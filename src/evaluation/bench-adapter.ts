/** LoRA files, ready to be measured at any of their ranks. */

import { type Adapter, openAdapter } from "../adapter/index.js";
import { DyloraError } from "../errors.js";
import type { Checkpoint } from "../models/checkpoint/types.js";
import { type LoadedAdapter, loadAdapter } from "../sampling/loaded-adapter.js";
import { planExtract } from "../surgery/index.js";
import { adapterKey, prefixDigests } from "./content-keys.js";
import { measuredRanks } from "./measured-ranks.js";

export interface BenchAdapter {
  readonly path: string;
  readonly isDylora: boolean;
  readonly dialect: string;
  readonly maxRank: number;
  /** Whether its modules have ranks of their own; those of a DyLoRA do not. */
  readonly isMixed: boolean;
  /** Ascending, the maximum included. */
  readonly ranks: readonly number[];
  readonly loaded: LoadedAdapter;
  /** Size of the file that `extract` writes for a rank. */
  fileSizeBytes(rank: number): number;
  /** Names what the adapter does at one of the ranks: the same for a file that was extracted at that rank. */
  key(rank: number, multiplier: number): string;
}

/**
 * Reads the factors of files into memory.
 *
 * @param ranks - as the user gave them, or null for up to 8 of those that were trained
 * @throws {DyloraError} `E_RANK`, `E_INCOMPATIBLE`, `E_FORMAT`, `E_NOT_FOUND`
 */
export async function openBenchAdapters(
  paths: readonly string[],
  checkpoint: Pick<Checkpoint, "unet" | "textEncoder">,
  ranks: readonly number[] | null,
): Promise<BenchAdapter[]> {
  const files: Adapter[] = [];
  try {
    for (const path of paths) files.push(await openAdapter(path));
    const ranksOfFiles = measuredRanks(ranks, files);
    const adapters: BenchAdapter[] = [];
    for (const [index, file] of files.entries()) {
      adapters.push(await readAdapter(file, checkpoint, ranksOfFiles[index]!));
    }
    return adapters;
  } finally {
    for (const file of files) await file.close();
  }
}

async function readAdapter(
  file: Adapter,
  checkpoint: Pick<Checkpoint, "unet" | "textEncoder">,
  ranks: readonly number[],
): Promise<BenchAdapter> {
  const { path, maxRank, dialect } = file;
  const sizes = new Map(
    planExtract(file, { ranks }).outputs.map(({ rank, sizeBytes }) => [rank, sizeBytes] as const),
  );
  const loaded = await loadAdapter(path, checkpoint).catch((error: unknown) => {
    throw withPath(error, path);
  });
  return {
    path,
    isDylora: file.dylora.isDylora,
    dialect,
    maxRank,
    isMixed: !file.dylora.isDylora && file.modules.some(({ rank }) => rank < maxRank),
    ranks,
    loaded,
    fileSizeBytes: (rank) => sizes.get(rank)!,
    key: contentKeys(loaded, ranks),
  };
}

/** The factors are hashed here, once; a key is then made of few bytes. */
function contentKeys(loaded: LoadedAdapter, ranks: readonly number[]): BenchAdapter["key"] {
  const digests = loaded.activate(loaded.maxRank).map(({ factors }) => {
    const ownRanks = [...new Set(ranks.map((rank) => Math.min(rank, factors.maxRank)))];
    const found = prefixDigests(factors, ownRanks);
    return new Map(ownRanks.map((rank, index) => [rank, found[index]!]));
  });
  return (rank, multiplier) =>
    adapterKey(
      loaded.activate(rank).map((module, index) => ({
        name: module.factors.target.name,
        rank: module.rank,
        scale: module.scale * multiplier,
        digest: digests[index]!.get(module.rank)!,
      })),
    );
}

/** One of several files is meant: the error says which. */
function withPath(error: unknown, path: string): unknown {
  if (!(error instanceof DyloraError) || error.message.includes(path)) return error;
  const { code, message, note, cause } = error;
  return new DyloraError(code, `bench ${path}: ${message}`, { ...(note && { note }), cause });
}
