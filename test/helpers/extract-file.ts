/** Extractions in tests, and the plainest check of a prefix that there is. */
import { expect } from "vitest";
import { type Adapter, type LoraModule, openAdapter } from "../../src/adapter/index.js";
import { elementBytes } from "../../src/safetensors/index.js";
import { type ExtractReport, extract, type RunExtractOptions } from "../../src/surgery/extract/extract.js";
import { type ExtractOptions, planExtract } from "../../src/surgery/extract/plan-extract.js";
import type { RankSelection } from "../../src/surgery/extract/select-ranks.js";

/** Metadata of sd-scripts' DyLoRA; and of one that was trained as in the paper. */
export const DYLORA = { ss_network_module: "networks.dylora", ss_network_dim: "8", ss_network_alpha: "4.0" };
export const PAPER = { ...DYLORA, ss_network_args: '{"unit": "2", "alpha_rule": "paper"}' };

export async function extractFile(
  parentPath: string,
  selection: RankSelection | null,
  options: ExtractOptions & RunExtractOptions = {},
): Promise<ExtractReport> {
  await using parent = await openAdapter(parentPath);
  return await extract(planExtract(parent, selection, options), options);
}

/** Checks every tensor of a copy against its parent, byte for byte, in the plainest way there is. */
export async function expectPrefix(
  parent: Adapter,
  copy: Adapter,
  rank: number | ((module: LoraModule) => number),
): Promise<void> {
  expect(copy.modules.map(({ name }) => name).sort()).toEqual(parent.modules.map(({ name }) => name).sort());
  const parents = new Map(parent.modules.map((module) => [module.name, module]));
  for (const module of copy.modules) {
    const whole = parents.get(module.name)!;
    const expectedRank = Math.min(typeof rank === "number" ? rank : rank(module), whole.rank);
    expect(module).toMatchObject({ rank: expectedRank, kind: whole.kind, component: whole.component });
    expect(module.down.shape).toEqual([expectedRank, ...whole.down.shape.slice(1)]);
    expect(module.up.shape).toEqual([whole.outFeatures, expectedRank, ...whole.up.shape.slice(2)]);
    expect([module.down.dtype, module.up.dtype]).toEqual([whole.down.dtype, whole.up.dtype]);

    const wholeDown = await parent.file.read(whole.down.name);
    const down = await copy.file.read(module.down.name);
    // Compared as buffers: expect() looks at every byte of an array by itself.
    expect(Buffer.compare(down, wholeDown.subarray(0, (wholeDown.length / whole.rank) * expectedRank))).toBe(
      0,
    );
    const wholeUp = await parent.file.read(whole.up.name);
    const size = elementBytes(whole.up.dtype)!;
    const columns = Array.from({ length: whole.outFeatures }, (_, row) => {
      const begin = row * whole.rank * size;
      return wholeUp.subarray(begin, begin + expectedRank * size);
    });
    expect(Buffer.compare(await copy.file.read(module.up.name), Buffer.concat(columns))).toBe(0);
  }
}
