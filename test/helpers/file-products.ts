/** The products of adapters on the disk: the measure for operations that add adapters up. */
import { openAdapter } from "../../src/adapter/index.js";
import { adapterProducts } from "./adapter-product.js";

/** Every module's product in a file, by name. */
export async function fileProducts(path: string): Promise<Map<string, Float64Array>> {
  await using adapter = await openAdapter(path);
  return await adapterProducts(adapter);
}

/** `Σ weight · values`. */
export function weightedSum(parts: readonly (readonly [number, Float64Array])[]): Float64Array {
  const sum = new Float64Array(parts[0]![1].length);
  for (const [weight, values] of parts) {
    for (let i = 0; i < sum.length; i++) sum[i]! += weight * values[i]!;
  }
  return sum;
}
