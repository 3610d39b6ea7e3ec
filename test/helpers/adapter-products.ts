/** What an adapter adds to each module, computed the plain way, in float64: the measure for every operation on factors. */
import { type Adapter, type LoraModule, openAdapter } from "../../src/adapter/index.js";

/** `scale · up · down` of one module, `[O, I · kernel]`. */
export async function moduleProduct({ file }: Adapter, module: LoraModule): Promise<Float64Array> {
  const { rank, outFeatures, alpha } = module;
  const down = await file.readFloat32(module.down.name);
  const up = await file.readFloat32(module.up.name);
  const columns = down.length / rank;
  const product = new Float64Array(outFeatures * columns);
  for (let row = 0; row < outFeatures; row++) {
    for (let k = 0; k < rank; k++) {
      const factor = (alpha / rank) * up[row * rank + k]!;
      for (let i = 0; i < columns; i++) product[row * columns + i]! += factor * down[k * columns + i]!;
    }
  }
  return product;
}

/** Every module's product, by name. */
export async function adapterProducts(path: string): Promise<Map<string, Float64Array>> {
  await using adapter = await openAdapter(path);
  const products = new Map<string, Float64Array>();
  for (const module of adapter.modules) products.set(module.name, await moduleProduct(adapter, module));
  return products;
}

/** `norm(found - expected) / norm(expected)`. */
export function relativeError(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (found.length !== expected.length) return Number.POSITIVE_INFINITY;
  let difference = 0;
  let total = 0;
  for (let i = 0; i < expected.length; i++) {
    difference += (found[i]! - expected[i]!) ** 2;
    total += expected[i]! ** 2;
  }
  return Math.sqrt(difference / total);
}

/** `Σ weight · values`. */
export function weightedSum(parts: readonly (readonly [number, Float64Array])[]): Float64Array {
  const sum = new Float64Array(parts[0]![1].length);
  for (const [weight, values] of parts) {
    for (let i = 0; i < sum.length; i++) sum[i]! += weight * values[i]!;
  }
  return sum;
}
