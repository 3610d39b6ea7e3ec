import path from "node:path";
import type { OptionSpec } from "../../options/option-spec.js";
import { TRAIN_OPTIONS } from "../../training/options.js";
import { SD_SCRIPTS_OPTIONS } from "../../training/sd-scripts-options.js";
import { defineCommand } from "../command.js";
import { runTrainer } from "../trainer.js";

/**
 * The options of `train`, none of them required. Those that the state decides are taken too, because the answer to
 * `--network_dim 8` should be "the state has 16" and not "unknown option"; the help leaves them out.
 */
const RESUME_OPTIONS = Object.fromEntries(
  Object.entries<OptionSpec>(TRAIN_OPTIONS).map(([name, { required, ...spec }]) => [
    name,
    spec.fixedOnResume
      ? { ...spec, hidden: true }
      : { ...spec, ...(spec.type !== "boolean" && { defaultText: "as saved" }) },
  ]),
) as unknown as typeof TRAIN_OPTIONS;

export const resumeCommand = defineCommand({
  command: "resume",
  flagStyle: "sd-scripts",
  positional: "<state_dir>",
  positionalDescription: "folder that a run saved its state in (…-state)",
  table: RESUME_OPTIONS,
  foreign: SD_SCRIPTS_OPTIONS,
  details:
    "A resumed run writes the same bytes as one that was never stopped (CPU). Everything that is not given comes from the state. --max_train_steps is the total, not the number of further steps.",
  examples: [
    { comment: "go on where the run was stopped", command: "dylora resume output/last-step00000400-state" },
    {
      comment: "train longer than was planned",
      command: "dylora resume output/last-state --max_train_steps 4000",
    },
    {
      comment: "the image folder lies elsewhere now",
      command: "dylora resume output/last-state --train_data_dir /data/cats",
    },
  ],
  onInterrupt: "stopping after this step and saving the state",

  async run({ positional, given, notes }, context) {
    const stateDir = path.resolve(positional[0] ?? "");
    return runTrainer(context, notes, (trainer, hooks) => trainer.resume(stateDir, given, hooks));
  },
});
