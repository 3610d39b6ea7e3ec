import { describe, expect, test } from "vitest";
import { benchSizes } from "./bench-sizes.js";

const none = { resolution: null, enableBucket: false };
const trained = {
  ss_resolution: "(768, 512)",
  ss_enable_bucket: "True",
  ss_min_bucket_reso: "320",
  ss_max_bucket_reso: "1280",
  ss_bucket_no_upscale: "True",
};

describe("benchSizes", () => {
  test("as the first file that says it was trained", () => {
    const files = [{}, { ss_resolution: "(640, 448)", ss_enable_bucket: "False" }, trained];
    expect(benchSizes(none, files, 64)).toEqual({ resolution: { width: 640, height: 448 }, buckets: null });
    const resolution = { width: 768, height: 512 };
    const buckets = { resolution, minSide: 320, maxSide: 1280, steps: 64, noUpscale: true };
    expect(benchSizes(none, [trained], 64)).toEqual({ resolution, buckets });
    expect(benchSizes(none, [{ ...trained, ss_bucket_reso_steps: "32" }], 16).buckets).toMatchObject({
      steps: 32,
    });
  });

  test("a resolution that is given is that size, or with enable_bucket its area", () => {
    const resolution = { width: 256, height: 256 };
    expect(benchSizes({ resolution, enableBucket: false }, [trained], 64)).toEqual({
      resolution,
      buckets: null,
    });
    expect(benchSizes({ resolution, enableBucket: true }, [{}], 64)).toEqual({
      resolution,
      buckets: { resolution, minSide: 256, maxSide: 1024, steps: 64, noUpscale: false },
    });
  });

  test("sizes that the model cannot work at are refused", () => {
    const size = { resolution: { width: 100, height: 100 }, enableBucket: false };
    expect(() => benchSizes(size, [], 64)).toThrow(expect.objectContaining({ code: "E_USAGE" }));
    expect(() => benchSizes(none, [{ ...trained, ss_bucket_reso_steps: "8" }], 64)).toThrow(
      expect.objectContaining({ code: "E_CONFIG", note: "The nearest is --bucket_reso_steps 64." }),
    );
  });

  test("without any word it is 512 px", () => {
    expect(benchSizes(none, [], 64)).toEqual({ resolution: { width: 512, height: 512 }, buckets: null });
  });
});
