/** All dialects, and which of them a file speaks. */
import { comfyuiDialect } from "./comfyui.js";
import type { Dialect, TensorRole } from "./dialect.js";
import { diffusersDialect } from "./diffusers.js";
import { kohyaDialect } from "./kohya.js";
import { peftDialect } from "./peft.js";

export type { Dialect, DialectId, TensorRole } from "./dialect.js";
export { kohyaTensorNames } from "./kohya.js";

export const DIALECTS: readonly Dialect[] = [kohyaDialect, peftDialect, diffusersDialect, comfyuiDialect];

export interface DetectedDialect {
  readonly dialect: Dialect;
  /** By tensor name; tensors that the dialect does not know are missing. */
  readonly roles: ReadonlyMap<string, TensorRole>;
}

/** The dialect that knows most of the names, or null where none knows any. */
export function detectDialect(tensorNames: Iterable<string>): DetectedDialect | null {
  const names = [...tensorNames];
  let best: DetectedDialect | null = null;
  for (const dialect of DIALECTS) {
    const roles = new Map<string, TensorRole>();
    for (const name of names) {
      const role = dialect.roleOf(name);
      if (role !== null) roles.set(name, role);
    }
    if (roles.size > (best?.roles.size ?? 0)) best = { dialect, roles };
    if (roles.size === names.length) break;
  }
  return best;
}
