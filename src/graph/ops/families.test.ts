import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const folder = fileURLToPath(new URL(".", import.meta.url));
const families = readdirSync(folder).filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"));

/** `describeOperators` checks every export of the file it is given; here: that every file is given to it. */
describe("every file of operators has its checks", () => {
  test.each(families)("%s", (family) => {
    const name = family.slice(0, -".ts".length);
    const source = readFileSync(`${folder}${name}.test.ts`, "utf8");
    const imported = new RegExp(`import \\* as (\\w+) from "\\./${name}\\.js"`).exec(source);
    expect(imported, `${name}.test.ts imports everything of ${family}`).not.toBeNull();
    expect(source).toContain(`describeOperators(${imported![1]}, {`);
  });
});
