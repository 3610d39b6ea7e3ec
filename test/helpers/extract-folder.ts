/** A folder of its own for every test of an extraction. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach } from "vitest";
import type { RunExtractOptions } from "../../src/surgery/extract/extract.js";
import type { ExtractOptions } from "../../src/surgery/extract/plan-extract.js";
import type { RankSelection } from "../../src/surgery/extract/select-ranks.js";
import { extractFile } from "./extract-file.js";

export let folder: string;
/** Where a test writes the file to extract from. */
export let parentPath: string;
export let outDir: string;

/** To be called once by a test file. */
export function useExtractFolder(): void {
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "dylora-extract-"));
    parentPath = join(folder, "cat.safetensors");
    outDir = join(folder, "out");
  });
  afterEach(() => {
    rmSync(folder, { recursive: true, force: true });
  });
}

export function run(selection: RankSelection | null, options: ExtractOptions & RunExtractOptions = {}) {
  return extractFile(parentPath, selection, { outDir, ...options });
}
