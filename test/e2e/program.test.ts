import { spawn } from "node:child_process";
import { copyFile, mkdir } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";
import { PROGRAM, runProgram } from "../helpers/run-program.js";
import { tempFolder } from "../helpers/temp-folder.js";

test("--version and --help", async () => {
  expect(await runProgram(["--version"])).toEqual({
    status: 0,
    stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
    stderr: "",
  });
  const help = await runProgram(["--help"]);
  expect(help).toMatchObject({ status: 0, stderr: "" });
  expect(help.stdout).toContain("Exit codes:");
});

test.each([
  [["trian"], 2, "error[E_USAGE]: unknown command trian\n  note: Did you mean `dylora train`?\n"],
  [["train", "--rank", "8"], 2, "error[E_USAGE]: train: unknown option --rank\n"],
  [
    ["train"],
    2,
    "error[E_CONFIG]: train: --pretrained_model_name_or_path and --train_data_dir are missing\n",
  ],
  [
    ["train", "--config_file", "/no/such.toml"],
    3,
    "error[E_NOT_FOUND]: train: there is no config file /no/such.toml\n",
  ],
])("%j exits with %i", async (args, status, stderr) => {
  const result = await runProgram(args);
  expect(result).toMatchObject({ status, stdout: "" });
  expect(result.stderr.startsWith(stderr)).toBe(true);
  expect(result.stderr).not.toContain("    at ");
});

test("--debug shows the stack", async () => {
  const { stderr } = await runProgram(["train", "--debug"]);
  expect(stderr).toContain("    at createTrainConfig");
});

test("--json puts the error on stderr as one document", async () => {
  const { status, stdout, stderr } = await runProgram(["train", "--json"]);
  expect(status).toBe(2);
  expect(stdout).toBe("");
  expect(JSON.parse(stderr)).toMatchObject({ schemaVersion: 1, error: { code: "E_CONFIG", exitCode: 2 } });
});

test("a reader that goes away is no error", async () => {
  // The reading end is closed before anything is written, as `dylora train --help | true` may do.
  const child = spawn(process.execPath, [PROGRAM, "train", "--help"], { stdio: ["ignore", "pipe", "pipe"] });
  child.stdout.destroy();
  let stderr = "";
  child.stderr.on("data", (part) => {
    stderr += part;
  });
  const status = await new Promise((resolve) => child.on("close", resolve));
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
});

test("no colour where there is no terminal", async () => {
  expect((await runProgram(["--help"])).stdout).not.toContain("\x1b");
});

test("doctor lists every device", async () => {
  const { status, stdout, stderr } = await runProgram(["doctor", "--json"]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  const report = JSON.parse(stdout);
  expect(report.schemaVersion).toBe(1);
  expect(report.devices.map(({ device }: { device: string }) => device)).toEqual(["cpu", "webgpu", "cuda"]);
  expect(report.devices[0]).toMatchObject({ works: true });
});

test("without a build it says how to make one", async () => {
  const root = await tempFolder();
  await mkdir(path.join(root, "bin"));
  const program = path.join(root, "bin", "dylora.cjs");
  await copyFile(PROGRAM, program);
  const { status, stderr } = await runProgram(["--help"], { program });
  expect(status).toBe(1);
  expect(stderr).toContain("dylora is not built");
  expect(stderr).toContain("npm run build");
});
