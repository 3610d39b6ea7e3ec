/** Everything that belongs into the page of a rank comparison, and the page itself. */

import { openAdapter } from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";
import type { BenchReport } from "../../evaluation/bench-types.js";
import { type EnergyMap, readEnergyMap } from "../energy/energy-map.js";
import type { PictureGrid } from "../pictures/picture-grid.js";
import { writeReport } from "../write-report.js";
import { benchPage } from "./bench-page.js";

/** Pages of more heat maps are not read. */
const MOST_ENERGY_MAPS = 4;

export interface BenchReportOptions {
  /** Null: none were drawn. */
  readonly pictures: PictureGrid | null;
  readonly signal?: AbortSignal;
}

/**
 * Writes the page of a comparison. Reads the compared files once more, for their energies; those that are gone by now have
 * none on the page.
 *
 * @throws {DyloraError} `E_EXISTS`, `E_WRITE`, `E_INTERRUPTED`
 */
export async function reportBench(
  path: string,
  report: BenchReport,
  { pictures, signal }: BenchReportOptions,
): Promise<void> {
  const energy: (EnergyMap | null)[] = [];
  for (const [index, file] of report.files.entries()) {
    energy.push(index < MOST_ENERGY_MAPS ? await energyOf(file.path, signal) : null);
  }
  await writeReport(path, benchPage({ report, energy, pictures }));
}

async function energyOf(path: string, signal?: AbortSignal): Promise<EnergyMap | null> {
  try {
    await using adapter = await openAdapter(path);
    return await readEnergyMap(adapter, signal);
  } catch (error) {
    if (error instanceof DyloraError && error.code !== "E_INTERRUPTED") return null;
    throw error;
  }
}
