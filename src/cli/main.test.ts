import path from "node:path";
import { describe, expect, test } from "vitest";
import { type MemoryTerminal, memoryTerminal } from "../../test/helpers/memory-terminal.js";
import { tempFolder } from "../../test/helpers/temp-folder.js";
import { COMMANDS } from "./commands.js";
import { runCli } from "./main.js";

async function run(...args: string[]): Promise<MemoryTerminal & { status: number }> {
  const terminal = memoryTerminal();
  const status = await runCli(args, terminal);
  return { ...terminal, status };
}

describe("help", () => {
  test("dylora --help", async () => {
    const { stdout, stderr, status } = await run("--help");
    expect(status).toBe(0);
    expect(stderr.text).toBe("");
    await expect(stdout.text).toMatchFileSnapshot("__snapshots__/help.txt");
  });

  test("a bare call and `dylora help` show the same", async () => {
    const help = await run("--help");
    expect((await run()).stdout.text).toBe(help.stdout.text);
    expect((await run("help")).stdout.text).toBe(help.stdout.text);
  });

  test.each(Object.keys(COMMANDS))("dylora %s --help", async (name) => {
    const { stdout, stderr, status } = await run(name, "--help");
    expect(status).toBe(0);
    expect(stderr.text).toBe("");
    await expect(stdout.text).toMatchFileSnapshot(`__snapshots__/help-${name}.txt`);
    expect((await run("help", name)).stdout.text).toBe(stdout.text);
  });

  test.each(Object.keys(COMMANDS))("%s: three examples, and no line but theirs is too wide", async (name) => {
    const { stdout } = await run(name, "--help");
    const [options, examples] = stdout.text.split("Examples:\n");
    expect(examples?.match(/^ {2}# /gm)).toHaveLength(3);
    expect(Math.max(...(options ?? "").split("\n").map((line) => line.length))).toBeLessThanOrEqual(80);
  });
});

test("--version prints the version and nothing else", async () => {
  const { stdout, status } = await run("--version");
  expect(stdout.text).toMatch(/^\d+\.\d+\.\d+\n$/);
  expect(status).toBe(0);
});

describe("usage errors", () => {
  test.each<[string[], string, string]>([
    [["trian"], "unknown command trian", "Did you mean `dylora train`?"],
    [
      ["qqqqqq"],
      "unknown command qqqqqq",
      "Commands: train, resume, extract, inspect, resize, nest, compare, convert, merge, diff, edit, verify, bench, report, generate, doctor.",
    ],
    [["--network_dim", "4"], "unknown option --network_dim", "Options follow the command"],
    [["train", "--rank", "4"], "train: unknown option --rank", "Did you mean --network_dim?"],
    [["train", "--network-dimm=4"], "train: unknown option --network-dimm", "Did you mean --network_dim?"],
    [["train", "-x"], "train: unknown option -x", "`dylora train --help` lists every option."],
    [["train", "--jsn"], "train: unknown option --jsn", "Did you mean --json?"],
    [["train", "--network_dim"], "train: --network_dim needs a value", "`dylora train --help`"],
    [
      ["train", "--network_dim", "many"],
      'train: --network_dim expects a whole number of at least 1, found "many"',
      "Nothing was started.",
    ],
    [
      ["train", "--lr_scheduler", "cosin"],
      'train: --lr_scheduler expects one of constant, constant_with_warmup, linear, cosine, cosine_with_restarts, polynomial, piecewise_constant, inverse_sqrt, cosine_with_min_lr, warmup_stable_decay, found "cosin"',
      "Did you mean cosine?",
    ],
    [
      ["train", "--optimizer_type", "adamw8BIT"],
      "train: --optimizer_type adamw8BIT is not available",
      "Use AdamW",
    ],
    [["train", "--mixed_precision", "bf16"], "train: --mixed_precision bf16 is not available", "WebGPU"],
    [["train", "--random_crop"], "train: --random_crop is not available", "leave it out"],
    [["train", "--flip_aug", "--no_flip_aug"], "train: --flip_aug and --no_flip_aug exclude each other", ""],
    [["train", "folder"], "train: too many arguments. Expected 0 arguments but got 1.", "--help"],
    [["resume"], "resume: STATE_DIR is missing", "--help"],
    [["bench", "x.safetensors"], "bench: --pretrained_model_name_or_path and --data are missing", "--help"],
  ])("%j", async (args, message, note) => {
    const { stdout, stderr, status } = await run(...args);
    expect(status).toBe(2);
    expect(stdout.text).toBe("");
    const [first, second = ""] = stderr.text.split("\n");
    expect(first).toBe(`error[E_USAGE]: ${message}`);
    expect(second).toContain(note);
  });

  test("with --json the error is a document on stderr", async () => {
    const { stdout, stderr, status } = await run("train", "--network_dim", "0", "--json");
    expect(status).toBe(2);
    expect(stdout.text).toBe("");
    expect(JSON.parse(stderr.text)).toMatchObject({
      schemaVersion: 1,
      error: { code: "E_USAGE", exitCode: 2 },
    });
  });
});

describe("config file and command line", () => {
  // The configuration is complete and checked before the trainer is loaded; a contradiction shows what was understood.
  const contradiction = (resolution: string) =>
    `error[E_CONFIG]: train: --resolution ${resolution} is not a multiple of 8 pixels`;

  async function train(toml: string, ...flags: string[]): Promise<string> {
    const folder = await tempFolder({ "cat.toml": toml });
    const { stderr } = await run("train", "--config_file", path.join(folder, "cat.toml"), ...flags);
    return stderr.text;
  }

  const needed = 'pretrained_model_name_or_path = "sd15"\ntrain_data_dir = "data"\n';

  test("the file is read", async () => {
    expect(await train(`${needed}resolution = 500`)).toContain(contradiction("500,500"));
  });

  test.each([["--resolution", "501"], ["--resolution=501"]])(
    "the command line wins: %s",
    async (...flags) => {
      expect(await train(`${needed}resolution = 500`, ...flags)).toContain(contradiction("501,501"));
    },
  );

  test("kebab case works in both", async () => {
    const text = await train(`${needed}min-timestep = 600`, "--max-timestep=500");
    expect(text).toContain("train: --min_timestep 600 is not below --max_timestep 500");
  });

  test("a switch of the file is turned off with --no_", async () => {
    const both = `${needed}network_train_unet_only = true\nnetwork_train_text_encoder_only = true\nresolution = 500`;
    expect(await train(both)).toContain("exclude each other");
    expect(await train(both, "--no-network-train-unet-only")).not.toContain("exclude each other");
  });

  test("a list of flags replaces the file's", async () => {
    const text = await train(`${needed}network_args = ["unit=3"]`, "--network_args", "unit=5", "conv_dim=3");
    expect(text).toContain("unit 5");
  });

  test("an unknown key names the nearest one", async () => {
    const text = await train("netwrk_dim = 4");
    expect(text).toBe(
      "error[E_CONFIG]: train: unknown key netwrk_dim (cat.toml, line 1)\n  note: Did you mean network_dim?\n",
    );
  });
});
