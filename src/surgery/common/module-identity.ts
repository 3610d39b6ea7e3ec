import type { LoraModule } from "../../adapter/index.js";
import { moduleOfKohyaName } from "../../adapter/module-names.js";

/**
 * What a module's name stands for, the same in every file: SDXL's modules have two names, and its first text encoder a prefix
 * that diffusers' converter also writes for the only one of SD 1.x and 2.x.
 */
export function moduleIdentity({ name }: Pick<LoraModule, "name">): string {
  const known = moduleOfKohyaName(name);
  return known === null ? name : `${known.component}.${known.path}`;
}
