/** SHA-256 of bytes that come piece by piece. */
import { createHash } from "node:crypto";

/** One digest in the making. Pieces count in the order of the calls. */
export interface StreamHash {
  /** Resolves when `bytes` may be changed again. */
  update(bytes: Uint8Array): void | Promise<void>;
  /** Lower case hexadecimal. */
  digest(): string | Promise<string>;
}

/** Computed on the calling thread. */
export function sha256Stream(): StreamHash {
  const hash = createHash("sha256");
  return {
    update: (bytes) => void hash.update(bytes),
    digest: () => hash.digest("hex"),
  };
}
