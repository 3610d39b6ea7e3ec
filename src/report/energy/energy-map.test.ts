import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { everyKindOfModule, writeRandomAdapter } from "../../../test/helpers/random-adapter.js";
import { tempFolder } from "../../../test/helpers/temp-folder.js";
import { type Adapter, openAdapter, readFactors } from "../../adapter/index.js";
import { type EnergyMap, readEnergyMap } from "./energy-map.js";

const DYLORA = { ss_network_module: "networks.dylora", ss_network_args: '{"unit": "2"}' };

/** Squared Frobenius norm of `alpha / R · Σ up[:, j] down[j]` over some components, by forming the product. */
async function productEnergy(
  adapter: Adapter,
  index: number,
  components: readonly number[],
): Promise<number> {
  const module = adapter.modules[index]!;
  const { down, upT } = await readFactors(adapter.file, module);
  const [columns, rows] = [down.length / module.rank, upT.length / module.rank];
  let energy = 0;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      let entry = 0;
      for (const j of components) entry += upT[j * rows + row]! * down[j * columns + column]!;
      energy += ((module.alpha / module.rank) * entry) ** 2;
    }
  }
  return energy;
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
const total = ({ blocks }: EnergyMap) => sum(blocks.map(({ energies }) => sum(energies)));

describe("readEnergyMap", () => {
  test("gives each component of a DyLoRA the norm of its own product, by block", async () => {
    const path = join(await tempFolder(), "a.safetensors");
    await writeRandomAdapter(path, { modules: everyKindOfModule(6, 4), metadata: DYLORA, dtype: "F32" });
    await using adapter = await openAdapter(path);
    const map = await readEnergyMap(adapter);

    expect(map).toMatchObject({ order: "nested", maxRank: 6 });
    expect(map.columns).toEqual([
      { first: 1, last: 2 },
      { first: 3, last: 4 },
      { first: 5, last: 6 },
    ]);
    expect(map.blocks.map(({ name, part, modules }) => [name, part, modules])).toEqual([
      ["TE 00", "text encoder", 2],
      ["IN04", "input blocks", 6],
    ]);
    expect(total(map)).toBeCloseTo(1, 12);

    const own = new Map<string, number[]>();
    for (const [index, module] of adapter.modules.entries()) {
      const block = module.component === "unet" ? "IN04" : "TE 00";
      const energies = own.get(block) ?? [0, 0, 0];
      own.set(block, energies);
      for (let j = 0; j < module.rank; j++) {
        energies[Math.floor(j / 2)]! += await productEnergy(adapter, index, [j]);
      }
    }
    const all = sum([...own.values()].map(sum));
    for (const { name, energies } of map.blocks) {
      for (const [column, energy] of energies.entries()) {
        expect(energy).toBeCloseTo(own.get(name)![column]! / all, 6);
      }
    }
  });

  test("orders an ordinary LoRA by its singular directions, which hold all of its energy", async () => {
    const path = join(await tempFolder(), "b.safetensors");
    await writeRandomAdapter(path, { modules: everyKindOfModule(4), dtype: "F32" });
    await using adapter = await openAdapter(path);
    const map = await readEnergyMap(adapter);
    expect(map.order).toBe("singular");
    expect(map.columns).toHaveLength(4);
    for (const { energies } of map.blocks) {
      for (const [column, energy] of energies.entries()) {
        if (column > 0) expect(energy).toBeLessThanOrEqual(energies[column - 1]!);
      }
    }
    const encoder = map.blocks.find(({ name }) => name === "TE 00")!;
    const energies = await Promise.all(
      adapter.modules.map((_, index) => productEnergy(adapter, index, [0, 1, 2, 3])),
    );
    const ofEncoder = energies.filter((_, index) => adapter.modules[index]!.component === "text_encoder");
    expect(sum(encoder.energies)).toBeCloseTo(sum(ofEncoder) / sum(energies), 6);
  });

  test("puts many components into few columns of whole units", async () => {
    const path = join(await tempFolder(), "c.safetensors");
    const [first] = everyKindOfModule(100);
    const metadata = { ...DYLORA, ss_network_args: '{"unit": "5"}' };
    await writeRandomAdapter(path, { modules: [first!], metadata });
    await using adapter = await openAdapter(path);
    expect((await readEnergyMap(adapter)).columns).toHaveLength(20);
    const wide = join(await tempFolder(), "d.safetensors");
    await writeRandomAdapter(wide, { modules: everyKindOfModule(100).slice(0, 1) });
    await using other = await openAdapter(wide);
    const { columns } = await readEnergyMap(other);
    expect(columns).toHaveLength(25);
    expect(columns.at(-1)).toEqual({ first: 97, last: 100 });
  });
});
