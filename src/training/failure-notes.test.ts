import { expect, test } from "vitest";
import { createTrainConfig } from "./config.js";
import { divergedNote, goOnNote, nothingLearnedNote } from "./failure-notes.js";

const config = (changes: object) =>
  createTrainConfig({ pretrainedModelNameOrPath: "/m.safetensors", trainDataDir: "/data", ...changes });

test.each([
  [{ learningRate: 3e-4 }, "--learning_rate 0.00003"],
  [{ learningRate: 1, unetLr: 2e-3 }, "--unet_lr 0.0002 --learning_rate 0.1"],
  [{ unetLr: 1e-2, textEncoderLr: 1e-3 }, "--unet_lr 0.001 --text_encoder_lr 0.0001"],
  [{ unetLr: 1e-2, textEncoderLr: 5, networkTrainUnetOnly: true }, "--unet_lr 0.001"],
])("%j is to be resumed with %s", (changes, rates) => {
  expect(divergedNote(config(changes), 12, "/out/cat-state")).toBe(
    "The run was taken back to step 12, the newest that is known to work, and its state saved: " +
      `go on with a lower rate, dylora resume /out/cat-state ${rates}`,
  );
});

test("other failures say where the state is, or that there is none", () => {
  expect(goOnNote(3, "/out/s")).toBe("The state of step 3 is saved: go on with dylora resume /out/s");
  expect(nothingLearnedNote(null)).toBe("Nothing was learned that could be saved.");
  expect(nothingLearnedNote(5)).toBe("The state of step 5, which the run went on from, is as it was.");
});
