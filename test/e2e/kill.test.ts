/**
 * SIGKILL at any moment of any command that writes: either no output or the whole one, and inputs as they were.
 *
 * Half of the kills come at a random time of the run, half a random moment after the first temporary file has appeared.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { copyFile, mkdir, readdir, readFile, stat } from "node:fs/promises";
import path from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { sha256OfFile } from "../../src/models/checkpoint/index.js";
import { randomStream } from "../../src/random/stream.js";
import { computeModelHash, SafetensorsFile } from "../../src/safetensors/index.js";
import { everyKindOfModule, writeRandomAdapter } from "../helpers/random-adapter.js";
import {
  modulesForModel,
  writeRandomDiffusers,
  writeRandomSingleFile,
} from "../helpers/random-checkpoint.js";
import { PROGRAM, runProgram } from "../helpers/run-program.js";
import { tempFolder } from "../helpers/temp-folder.js";
import { SD1_TINY } from "../helpers/tiny-checkpoints.js";

/** One line each; the inputs are in the folder above, everything else is output. */
const COMMANDS = {
  extract: "extract ../wide.safetensors --ranks 8,16,32,64 --out .",
  convert: "convert ../cat.safetensors --to diffusers --out out.safetensors",
  "convert to a folder": "convert ../cat.safetensors --to peft --out out",
  resize: "resize ../wide.safetensors --ranks 8,32 --out .",
  nest: "nest ../wide.safetensors --out out.safetensors",
  merge: "merge ../wide.safetensors ../wide.safetensors --ratios 1,0.5 --out out.safetensors",
  "merge into a file": "merge ../cat.safetensors --into ../base.safetensors --out out.safetensors",
  "merge into a folder": "merge ../cat.safetensors --into ../base --out out",
  diff: "diff ../base.safetensors ../tuned.safetensors --rank 4 --out out.safetensors",
  edit: "edit mine.safetensors --set note=x --in-place",
} as const;

type CommandName = keyof typeof COMMANDS;

/** 5 for each of the ten commands. */
const KILLS = 50;

let root: string;
let inputs: ReadonlyMap<string, string>;
const random = randomStream(Date.now() % 2 ** 32, "kill");

beforeAll(async () => {
  root = await tempFolder();
  const at = (name: string) => path.join(root, name);
  await writeRandomAdapter(at("wide.safetensors"), { modules: everyKindOfModule(64), hashes: true });
  await writeRandomAdapter(at("cat.safetensors"), { modules: modulesForModel(SD1_TINY, 4), hashes: true });
  await writeRandomSingleFile(at("base.safetensors"), SD1_TINY, "F16");
  await writeRandomDiffusers(at("base"), SD1_TINY, "F16");
  const merged = ["merge", "cat.safetensors", "--into", "base.safetensors", "--out", "tuned.safetensors"];
  expect((await runProgram(merged, { cwd: root })).status).toBe(0);
  inputs = await fingerprints(root);
});

describe("killed at random moments", () => {
  let killed = 0;
  let killedWhileWriting = 0;

  test.each(Object.keys(COMMANDS) as CommandName[])("%s", { timeout: 300_000 }, async (name) => {
    const reference = await newFolder(name, "reference");
    const startMs = performance.now();
    expect(await runProgram(COMMANDS[name].split(" "), { cwd: reference })).toMatchObject({ status: 0 });
    const durationMs = performance.now() - startMs;
    const expected = await dataHashes(reference);
    expect(expected.size).toBeGreaterThan(0);

    let cwd = reference;
    for (let i = 0; i < KILLS / Object.keys(COMMANDS).length; i++) {
      cwd = await newFolder(name, String(i));
      const outcome = await runAndKill(
        name,
        cwd,
        i % 2 === 0 ? { atMs: random.uniform() * durationMs } : "writing",
      );
      if (outcome !== "finished") killed++;
      if (outcome === "writing") killedWhileWriting++;
      const visible = (await readdir(cwd)).filter((entry) => !isTemporary(entry));
      for (const [file, hash] of await dataHashes(cwd)) {
        // The edited file is its own input: old or new, its data are the same.
        expect([file, hash]).toEqual([file, expected.get(file)]);
      }
      // A folder appears whole.
      for (const entry of visible) {
        if ((await stat(path.join(cwd, entry))).isDirectory()) {
          expect(await listFiles(path.join(cwd, entry))).toEqual(
            await listFiles(path.join(reference, entry)),
          );
        }
      }
    }
    // What the last killed run left does not disturb the next one.
    const again = await runProgram([...COMMANDS[name].split(" "), ...(name === "edit" ? [] : ["--force"])], {
      cwd,
    });
    expect(again).toMatchObject({ status: 0 });
    expect(await dataHashes(cwd)).toEqual(expected);
  });

  test("inputs are as they were, and the kills came where they matter", async () => {
    for (const [file, hash] of inputs)
      expect([file, await sha256OfFile(path.join(root, file))]).toEqual([file, hash]);
    expect(killed).toBeGreaterThan(KILLS / 2);
    expect(killedWhileWriting).toBeGreaterThan(KILLS / 10);
  });
});

async function newFolder(name: CommandName, suffix: string): Promise<string> {
  const folder = path.join(root, `${name.replaceAll(" ", "-")}-${suffix}`);
  await mkdir(folder);
  if (name === "edit")
    await copyFile(path.join(root, "wide.safetensors"), path.join(folder, "mine.safetensors"));
  return folder;
}

/** @returns `writing`: killed while a temporary file was there; `early`: before; `finished`: too late */
async function runAndKill(
  name: CommandName,
  cwd: string,
  when: { atMs: number } | "writing",
): Promise<"early" | "writing" | "finished"> {
  const child = spawn(process.execPath, [PROGRAM, ...COMMANDS[name].split(" ")], { cwd, stdio: "ignore" });
  const ended = new Promise((resolve) => child.on("close", resolve));
  if (when === "writing") await temporaryFile(cwd, child);
  await delay(when === "writing" ? random.uniform() * 25 : when.atMs);
  child.kill("SIGKILL");
  await ended;
  if (child.signalCode !== "SIGKILL") return "finished";
  return (await readdir(cwd)).some(isTemporary) ? "writing" : "early";
}

/** Waits until a temporary file is there, or the process is not any more. */
async function temporaryFile(cwd: string, child: ChildProcess): Promise<void> {
  while (child.exitCode === null && !(await readdir(cwd)).some(isTemporary)) await delay(1);
}

function isTemporary(name: string): boolean {
  return name.startsWith(".") && name.endsWith(".tmp");
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Of every file that has its name: SHA-256 of the tensors' data, and for other files of all bytes. */
async function dataHashes(folder: string): Promise<Map<string, string>> {
  const hashes = new Map<string, string>();
  for (const file of await listFiles(folder)) {
    const full = path.join(folder, file);
    if (file.endsWith(".safetensors")) {
      await using opened = await SafetensorsFile.open(full);
      hashes.set(file, await computeModelHash(opened));
    } else {
      hashes.set(file, (await readFile(full)).toString("base64"));
    }
  }
  return hashes;
}

async function fingerprints(folder: string): Promise<Map<string, string>> {
  const hashes = new Map<string, string>();
  for (const file of await listFiles(folder))
    hashes.set(file, (await sha256OfFile(path.join(folder, file)))!);
  return hashes;
}

/** Without temporary ones. */
async function listFiles(folder: string): Promise<string[]> {
  const files: string[] = [];
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const file = path.relative(folder, path.join(entry.parentPath ?? entry.path, entry.name));
    if (entry.isFile() && !file.split(path.sep).some(isTemporary)) files.push(file);
  }
  return files.sort();
}
