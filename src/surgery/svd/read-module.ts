/** Fetches a module for a job. */
import type { Adapter, LoraModule } from "../../adapter/index.js";
import type { ModuleBytes } from "./module-jobs.js";

/** Both factors as they are in the file, in memory of their own. */
export async function readModule({ file, path }: Adapter, module: LoraModule): Promise<ModuleBytes> {
  const [down, up] = await Promise.all([file.read(module.down.name), file.read(module.up.name)]);
  return {
    subject: `${path}: module ${module.name}`,
    rank: module.rank,
    outFeatures: module.outFeatures,
    down,
    downDtype: module.down.dtype,
    up,
    upDtype: module.up.dtype,
  };
}

/** Size of all factors in the file. */
export function factorBytes({ modules }: Adapter): number {
  return modules.reduce((sum, { down, up }) => sum + down.sizeBytes + up.sizeBytes, 0);
}
