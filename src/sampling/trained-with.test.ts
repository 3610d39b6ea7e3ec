import { describe, expect, test } from "vitest";
import { trainedWith } from "./trained-with.js";

const UNKNOWN = { predictionType: "epsilon", predictionTypeSource: "default" } as const;
const V_FILE = { ss_base_model_version: "sd_v2_v", ss_zero_terminal_snr: "True" };

test("nothing is known without metadata", () => {
  expect(trainedWith(UNKNOWN, [])).toEqual({
    predictionType: "epsilon",
    zeroTerminalSnr: false,
    clipSkip: null,
    resolution: null,
    warnings: [],
  });
});

test("the first file that says anything counts", () => {
  const files = [{}, { ss_clip_skip: "2", ss_resolution: "(768, 512)" }, { ss_clip_skip: "1" }];
  expect(trainedWith(UNKNOWN, files)).toMatchObject({
    clipSkip: 2,
    resolution: { width: 768, height: 512 },
    warnings: [],
  });
  expect(trainedWith(UNKNOWN, [{ ss_clip_skip: "None", ss_resolution: "512" }])).toMatchObject({
    clipSkip: null,
    resolution: null,
  });
});

describe("what the model predicts", () => {
  test("is what the adapter says where the checkpoint says nothing, with a warning", () => {
    const { predictionType, zeroTerminalSnr, warnings } = trainedWith(UNKNOWN, [V_FILE]);
    expect([predictionType, zeroTerminalSnr]).toEqual(["v_prediction", true]);
    expect(warnings).toEqual([
      expect.stringMatching(/v_prediction, as the adapter was trained with, is taken/),
    ]);
  });

  test("is what the checkpoint says where both say something", () => {
    const known = { predictionType: "epsilon", predictionTypeSource: "option" } as const;
    const { predictionType, warnings } = trainedWith(known, [V_FILE]);
    expect(predictionType).toBe("epsilon");
    expect(warnings).toEqual(["The adapter was trained with v_prediction, the base model predicts epsilon."]);
  });
});

test("files that disagree about zero_terminal_snr are used with it", () => {
  const { zeroTerminalSnr, warnings } = trainedWith(UNKNOWN, [{}, { ss_zero_terminal_snr: "True" }]);
  expect(zeroTerminalSnr).toBe(true);
  expect(warnings).toHaveLength(1);
});
