import { describe, expect, test } from "vitest";
import { memoryTerminal } from "../../test/helpers/memory-terminal.js";
import type { BenchPlan, BenchProgress } from "../evaluation/bench-types.js";
import { BenchReporter } from "./bench-progress.js";

const plan: BenchPlan = {
  imageCount: 12,
  losses: 1080,
  mayStopEarly: false,
  reusedLosses: 0,
  device: "cpu",
  estimatedPeakBytes: 7.2e9,
};

const progress = (done: number, secondsLeft: number | null): BenchProgress => ({
  task: "rank 8 of cat",
  done,
  total: 1080,
  secondsLeft,
});

function reporter(freeBytes = 32e9) {
  const { stderr } = memoryTerminal();
  const clock = { ms: 0 };
  const made = new BenchReporter(stderr, { now: () => clock.ms, freeBytes: () => freeBytes });
  return { stderr, clock, made };
}

describe("BenchReporter", () => {
  test("a long run is announced once, as soon as its length is known", () => {
    const { stderr, made } = reporter();
    made.plan({ ...plan, reusedLosses: 36 });
    made.progress(progress(1, null));
    expect(stderr.text).toBe("");
    made.progress(progress(2, 2880));
    made.progress(progress(3, 2870));
    expect(stderr.text).toBe(
      "measuring 1,080 losses on 12 images (36 more are known): about 48m, 7.2 GB of memory\n",
    );
  });

  test("with --until it may be over sooner", () => {
    const { stderr, made } = reporter();
    made.plan({ ...plan, mayStopEarly: true });
    made.progress(progress(2, 2880));
    expect(stderr.text).toBe("measuring up to 1,080 losses on 12 images: at most 48m, 7.2 GB of memory\n");
  });

  test("a short run says nothing", () => {
    const { stderr, made } = reporter();
    made.plan(plan);
    made.progress(progress(2, 59));
    made.progress(progress(3, 500));
    made.close();
    expect(stderr.text).toBe("");
  });

  test("a run that needs more memory than is free is warned of, on the CPU", () => {
    const { stderr, made } = reporter(4e9);
    made.plan(plan);
    expect(stderr.text).toContain("warning: bench needs about 7.2 GB of memory and 4.0 GB are free: ");
    const gpu = reporter(4e9);
    gpu.made.plan({ ...plan, device: "webgpu" });
    expect(gpu.stderr.text).toBe("");
  });

  test("where no line can be rewritten, there is one a minute", () => {
    const { stderr, clock, made } = reporter();
    for (const ms of [0, 30_000, 60_000, 90_000, 121_000]) {
      clock.ms = ms;
      made.progress(progress(ms / 1000, 30));
    }
    expect(stderr.text).toBe("rank 8 of cat  60/1,080  30s left\nrank 8 of cat  121/1,080  30s left\n");
  });
});
