/** SHA-256 of bytes that come piece by piece. */
import { createSha256 } from "../io/index.js";

/** One digest in the making. Pieces count in the order of the calls. */
export interface StreamHash {
  /** Resolves when `bytes` may be changed again. */
  update(bytes: Uint8Array): void | Promise<void>;
  /** Lower case hexadecimal. */
  digest(): string | Promise<string>;
}

/** Computed on the calling thread. */
export function sha256Stream(): StreamHash {
  const hash = createSha256();
  return {
    update: (bytes) => void hash.update(bytes),
    digest: () => hash.digest("hex"),
  };
}
