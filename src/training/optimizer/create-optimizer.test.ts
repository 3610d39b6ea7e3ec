import { describe, expect, it } from "vitest";
import { DyloraError } from "../../errors.js";
import { createOptimizer, OPTIMIZER_NAMES } from "./create-optimizer.js";

function refusal(type: string, ...args: string[]): DyloraError {
  try {
    createOptimizer(type, args);
  } catch (error) {
    if (error instanceof DyloraError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("createOptimizer", () => {
  it("has torch's defaults for AdamW, which is also what an empty type means", () => {
    const settings = { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 };
    for (const type of ["AdamW", "adamw", ""]) {
      expect(createOptimizer(type)).toMatchObject({ name: "AdamW", settings });
    }
  });

  it("reads the arguments as sd-scripts spells them", () => {
    expect(createOptimizer("AdamW", ["weight_decay=0.1", "betas=0.9,0.99", "eps=1e-6"]).settings).toEqual({
      beta1: 0.9,
      beta2: 0.99,
      eps: 1e-6,
      weight_decay: 0.1,
    });
    expect(createOptimizer("lion", ["betas=0.95,0.98"]).settings).toEqual({
      beta1: 0.95,
      beta2: 0.98,
      weight_decay: 0,
    });
    expect(createOptimizer("SGDNesterov", ["momentum=0.8"]).settings).toEqual({
      momentum: 0.8,
      weight_decay: 0,
    });
  });

  it("builds every name it lists", () => {
    expect(OPTIMIZER_NAMES).toEqual(["AdamW", "Lion", "SGDNesterov"]);
    for (const name of OPTIMIZER_NAMES) expect(createOptimizer(name).name).toBe(name);
  });

  it.each([
    ["AdamW8bit", "use AdamW", "as small as the adapter"],
    ["PagedAdamW8bit", "use AdamW", "as small as the adapter"],
    ["Lion8bit", "use Lion", "as small as the adapter"],
    ["Prodigy", "use AdamW", "one step size"],
    ["DAdaptAdam", "use AdamW", "one step size"],
    ["AdaFactor", "use AdamW", "one statistic per column"],
    ["AdamV", "use AdamW", "Built are AdamW, Lion, SGDNesterov."],
    ["torch.optim.RAdam", "use AdamW", "Built are"],
  ])("refuses %s and says what to use", (type, message, note) => {
    const error = refusal(type);
    expect(error.code).toBe("E_CONFIG");
    expect(error.message).toContain(`optimizer_type: ${type} is not built; ${message}`);
    expect(error.note).toContain(note);
  });

  it.each([
    ["AdamW", "weight_deca=0.1", "did you mean weight_decay?"],
    ["AdamW", "momentum=0.9", "unknown key momentum"],
    ["AdamW", "lr=1e-4", "lr is not a key of dylora"],
    ["AdamW", "betas=0.9", "betas must be two numbers, got 1"],
    ["AdamW", "betas=0.9,0.99,0.999", "betas must be two numbers, got 3"],
    ["AdamW", "betas=0.9,1", 'betas must be a number from 0 and below 1, got "1"'],
    ["AdamW", "eps=0", "eps must be a number above 0"],
    ["AdamW", "weight_decay=-1", "weight_decay must be a number from 0"],
    ["SGDNesterov", "momentum=0", "momentum must be a number above 0 and below 1"],
  ])("refuses %s with %s", (type, arg, message) => {
    const error = refusal(type, arg);
    expect(error.code).toBe("E_CONFIG");
    expect(error.message).toContain(message);
  });
});
