import { readConfigFile } from "../../options/config-file.js";
import type { OptionTable } from "../../options/option-spec.js";
import { createTrainConfig, pointlessOptions, type TrainConfigInput } from "../../training/config.js";
import { TRAIN_OPTIONS } from "../../training/options.js";
import { SD_SCRIPTS_OPTIONS } from "../../training/sd-scripts-options.js";
import { defineCommand } from "../command.js";
import { runTrainer } from "../trainer.js";

/** Options that decide where a run starts from, and are no part of its configuration. */
const START_OPTIONS = {
  resume: {
    type: "path",
    default: null,
    placeholder: "state-dir",
    group: "Training",
    description: "go on from a saved state; the same as `dylora resume`",
    alsoCalled: ["resume_from_checkpoint"],
  },
} as const satisfies OptionTable;

const CONFIG_FILE_OPTION = {
  config_file: {
    type: "path",
    default: null,
    placeholder: "x.toml",
    group: "Training",
    common: true,
    description: "read options from a TOML file; options on the command line win",
  },
} as const satisfies OptionTable;

const FILE_TABLE = { ...TRAIN_OPTIONS, ...START_OPTIONS };

export const trainCommand = defineCommand({
  command: "train",
  flagStyle: "sd-scripts",
  positional: "",
  table: { ...CONFIG_FILE_OPTION, ...FILE_TABLE },
  foreign: SD_SCRIPTS_OPTIONS,
  details:
    "Options have sd-scripts' names and can also be written in kebab case (--network-dim). A switch that the config file turns on is turned off with --no_NAME.",
  examples: [
    {
      comment: "every rank up to 16 in steps of 4, U-Net only, as a file of half size",
      command:
        "dylora train --pretrained_model_name_or_path sd15.safetensors --train_data_dir data --network_dim 16 --network_args unit=4 --network_train_unet_only --save_precision fp16",
    },
    {
      comment: "options from a file, fewer steps than it says, one JSON event a line",
      command: "dylora train --config_file cat.toml --max_train_steps 500 --json",
    },
    {
      comment: "an ordinary LoRA, with a state every 500 steps to go on from",
      command:
        "dylora train --config_file cat.toml --network_module lora --network_dim 8 --save_state --save_every_n_steps 500",
    },
  ],
  onInterrupt: "stopping after this step and saving the state",

  async run({ given, notes }, context) {
    const { configFile, ...flags } = given;
    const file =
      configFile == null
        ? { values: {}, notes: [] }
        : await readConfigFile(
            { command: "train", table: FILE_TABLE, foreign: SD_SCRIPTS_OPTIONS },
            configFile,
          );
    const { resume: stateDir, ...options } = { ...file.values, ...flags };
    const allNotes = [...file.notes, ...notes];
    if (stateDir != null) {
      return runTrainer(context, allNotes, (trainer, hooks) => trainer.resume(stateDir, options, hooks));
    }
    const config = createTrainConfig(options as TrainConfigInput);
    return runTrainer(context, [...allNotes, ...pointlessOptions(config, options)], (trainer, hooks) =>
      trainer.train(config, hooks),
    );
  },
});
