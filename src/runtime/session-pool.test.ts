import { describe, expect, test } from "vitest";
import { SessionPool, type SessionPoolOptions } from "./session-pool.js";

/** A pool over a memory of 100 bytes, and a log of what it did. */
function testPool(options: SessionPoolOptions = {}) {
  const log: string[] = [];
  let taken = 0;
  const pool = new SessionPool<{ release(): Promise<void>; name: string }>({
    freeBytes: () => 100 - taken,
    ...options,
  });
  const open = (name: string, sizeBytes: number) => () => ({
    sizeBytes,
    create: async () => {
      log.push(`make ${name}`);
      taken += sizeBytes;
      return {
        name,
        async release() {
          log.push(`release ${name}`);
          taken -= sizeBytes;
        },
      };
    },
  });
  const use = (name: string, sizeBytes = 40) =>
    pool.use(name, open(name, sizeBytes), (session) => session.name);
  return { pool, open, use, log };
}

describe("SessionPool", () => {
  test("makes a session once, as long as all fit", async () => {
    const { pool, use, log } = testPool();
    for (const name of ["a", "b", "a", "b"]) expect(await use(name)).toBe(name);
    expect(log).toEqual(["make a", "make b"]);
    expect(pool.createdCount).toBe(2);
  });

  test("makes room by releasing what was used longest ago", async () => {
    const { pool, use, log } = testPool();
    for (const name of ["a", "b", "a", "c"]) await use(name);
    expect(log).toEqual(["make a", "make b", "release b", "make c"]);
    expect(pool.keys).toEqual(["a", "c"]);
    await use("big", 90);
    expect(log.slice(4)).toEqual(["release a", "release c", "make big"]);
  });

  test("makes one session even where it does not fit", async () => {
    const { use, log } = testPool();
    await use("a", 1000);
    await use("b", 1000);
    expect(log).toEqual(["make a", "release a", "make b"]);
  });

  test("keeps at most as many as it is told", async () => {
    const { use, log } = testPool({ most: 1 });
    for (const name of ["a", "a", "b"]) await use(name, 1);
    expect(log).toEqual(["make a", "release a", "make b"]);
  });

  test("never releases a session that is in use, and makes it once for all who wait", async () => {
    const { pool, open, use, log } = testPool();
    let finish = () => {};
    const work = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const busy = [pool.use("a", open("a", 90), () => work), pool.use("a", open("a", 90), () => work)];
    await use("b", 90);
    expect(log).toEqual(["make a", "make b"]);
    finish();
    await Promise.all(busy);
    await use("c", 90);
    expect(log.slice(2)).toEqual(["release a", "release b", "make c"]);
  });

  test("tries again after a session could not be made", async () => {
    const { pool, open, use } = testPool();
    const broken = () => ({
      sizeBytes: 1,
      create: async () => {
        throw new Error("no memory");
      },
    });
    await expect(pool.use("a", broken, () => {})).rejects.toThrow("no memory");
    expect(pool.keys).toEqual([]);
    expect(await use("a")).toBe("a");
    await pool.use("b", open("b", 1), () => {});
    await pool.release();
    expect(pool.keys).toEqual([]);
  });

  test("asks the machine how much is free where nobody says it", async () => {
    const pool = new SessionPool<{ release(): Promise<void> }>();
    const open = () => ({ sizeBytes: 1, create: async () => ({ release: async () => {} }) });
    for (const key of ["a", "b", "c"]) await pool.use(key, open, () => {});
    expect(pool.keys).toEqual(["a", "b", "c"]);
  });
});
