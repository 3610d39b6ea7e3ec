import { configDefaults, defineConfig } from "vitest/config";

const endToEnd = "test/e2e/**/*.test.ts";

export default defineConfig({
  test: {
    // onnxruntime keeps its own thread pool: two test processes on the two cores of the smallest machine are enough.
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: ["src/**/*.test.ts", "test/**/*.test.ts"],
          exclude: [...configDefaults.exclude, endToEnd],
        },
      },
      {
        extends: true,
        // These run the built program; only they wait for the build.
        test: { name: "e2e", include: [endToEnd], globalSetup: "test/global-setup.ts" },
      },
    ],
  },
});
