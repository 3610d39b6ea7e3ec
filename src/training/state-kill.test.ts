/** SIGKILL at any moment leaves a state that can be read: tried on real processes. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { randomStream } from "../random/stream.js";
import { readTrainState } from "./state.js";

const project = new URL("../../", import.meta.url).pathname;
let root: string;

/** Writes state after state, whose every number is the step. */
const WRITER = `
import { writeTrainState } from "./training/state.js";
for (let step = 1; ; step++) {
  const data = new Float32Array(60_000).fill(step);
  const tensors = ["a", "b", "c"].map((name) => ({ name, shape: [data.length], data }));
  await writeTrainState(process.argv[2], { step, config: {}, identities: {}, progress: null }, tensors);
  process.send(step);
}
`;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "dylora-kill-"));
  const options =
    "--ignoreConfig --rootDir src --module nodenext --target es2022 --lib es2023 --types node --skipLibCheck";
  execFileSync(
    process.execPath,
    [
      join(project, "node_modules/typescript/bin/tsc"),
      ...options.split(" "),
      "--outDir",
      root,
      "src/training/state.ts",
    ],
    { cwd: project },
  );
  await writeFile(join(root, "package.json"), '{ "type": "module" }');
  await writeFile(join(root, "writer.js"), WRITER);
  await symlink(join(project, "node_modules"), join(root, "node_modules"), "junction");
});

afterAll(() => rm(root, { recursive: true, force: true }));

it("always leaves one whole state", async () => {
  const folder = join(root, "cat-state");
  const random = randomStream(1, "kill");
  const steps: number[] = [];
  for (let kill = 0; kill < 8; kill++) {
    const child = spawn(process.execPath, [join(root, "writer.js"), folder], {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    // After some whole states, somewhere in the writing of the next.
    for (let whole = 1 + random.int(6); whole > 0; whole--) await once(child, "message");
    await new Promise((resolve) => setTimeout(resolve, random.uniform() * 10));
    child.kill("SIGKILL");
    await once(child, "exit");
    const { step, tensors } = await readTrainState(folder);
    expect([...tensors.keys()].sort()).toEqual(["a", "b", "c"]);
    for (const data of tensors.values()) expect(data.every((value) => value === step)).toBe(true);
    steps.push(step);
  }
  // The kills came at different moments of the writing, not all before or after it.
  expect(new Set(steps).size).toBeGreaterThan(1);
});
