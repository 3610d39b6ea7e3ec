/** What the modules of an adapter add to the weights, formed: only for tests. */
import { type Adapter, readFactors } from "../../src/adapter/index.js";
import { productOf } from "./matrix.js";

/** By module name: `alpha / rank · up · down`, `[O, I]`, as a loader computes it. */
export async function adapterProducts(adapter: Adapter): Promise<Map<string, Float64Array>> {
  const products = new Map<string, Float64Array>();
  for (const module of adapter.modules) {
    const scale = module.alpha / module.rank;
    const product = productOf(await readFactors(adapter.file, module), module.rank);
    products.set(
      module.name,
      product.map((value) => value * scale),
    );
  }
  return products;
}
