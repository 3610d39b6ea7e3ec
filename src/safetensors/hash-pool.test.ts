import { createHash } from "node:crypto";
import { expect, it } from "vitest";
import { HashPool } from "./hash-pool.js";

it("hashes several streams at once, each in its own order", async () => {
  const pool = new HashPool(2);
  try {
    const streams = Array.from({ length: 5 }, (_, i) => ({
      hash: pool.open(),
      reference: createHash("sha256"),
      seed: i,
    }));
    for (let piece = 0; piece < 7; piece++) {
      const updates = streams.map(({ hash, reference, seed }) => {
        const shared = new Uint8Array(new SharedArrayBuffer(1000 * piece + seed)).fill(piece * 16 + seed);
        reference.update(shared);
        // Half of the pieces come from ordinary memory.
        return hash.update(piece % 2 === 0 ? shared : shared.slice());
      });
      // Without waiting for the pieces before, except that memory is not reused.
      if (piece === 3) await Promise.all(updates);
    }
    for (const { hash, reference } of streams) expect(await hash.digest()).toBe(reference.digest("hex"));
    expect(await pool.open().digest()).toBe(createHash("sha256").digest("hex"));
  } finally {
    await pool.close();
  }
});

it("fails what is under way when it is closed", async () => {
  const pool = new HashPool(1);
  const digest = Promise.resolve(pool.open().digest());
  const failure = expect(digest).rejects.toMatchObject({ code: "E_INTERNAL" });
  await pool.close();
  await failure;
});
