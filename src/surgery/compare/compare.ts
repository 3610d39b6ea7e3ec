/** Two adapters side by side, module by module, without forming a product. */
import {
  type Adapter,
  COMPONENTS,
  type Component,
  type LoraModule,
  type ModuleKind,
  parameterCount,
} from "../../adapter/index.js";
import { throwIfAborted } from "../../io/index.js";
import { moduleIdentity } from "../common/module-identity.js";
import { inOrder } from "../svd/in-order.js";
import { JobPool } from "../svd/job-pool.js";
import { factorBytes, ModuleReader } from "../svd/read-module.js";

export interface CompareOptions {
  /** Called after each module that both have. */
  readonly onProgress?: (progress: { readonly doneModules: number; readonly totalModules: number }) => void;
  readonly signal?: AbortSignal;
}

/**
 * A and B are what the adapters add to the weight, `alpha / rank · up · down`. Norms are Frobenius norms; ratios with a norm of
 * 0 below the line are null.
 */
export interface ComparedModule {
  /** As A names it; B may use another of kohya's names for the same module. */
  readonly name: string;
  readonly component: Component;
  readonly kind: ModuleKind;
  /** Of A and of B. */
  readonly ranks: readonly [number, number];
  readonly norms: readonly [number, number];
  /** `‖A - B‖ / ‖A‖` */
  readonly relativeDifference: number | null;
  /** `⟨A, B⟩ / (‖A‖ ‖B‖)`: 1 for the same direction, 0 for unrelated ones. */
  readonly cosine: number | null;
  /** Angles between the spaces that the products write to, in degrees, ascending. */
  readonly columnAngles: readonly number[];
  /** Angles between the spaces that the products read from. */
  readonly rowAngles: readonly number[];
  /** Mean squared cosine of the angles: 1 where the smaller space lies in the larger one, 0 where they are orthogonal. */
  readonly columnOverlap: number | null;
  readonly rowOverlap: number | null;
}

/** Sums over the modules that both adapters have, as if all products were one long vector. */
export interface ComparedTotal {
  readonly component: Component | "all";
  readonly modules: number;
  readonly norms: readonly [number, number];
  readonly relativeDifference: number | null;
  readonly cosine: number | null;
  /** Means over the modules. */
  readonly columnOverlap: number | null;
  readonly rowOverlap: number | null;
}

export interface CompareReport {
  readonly a: { readonly path: string; readonly maxRank: number; readonly moduleCount: number };
  readonly b: { readonly path: string; readonly maxRank: number; readonly moduleCount: number };
  /** Modules of both, in the order of A. */
  readonly modules: readonly ComparedModule[];
  /** All modules, then each component. */
  readonly totals: readonly ComparedTotal[];
  readonly onlyInA: readonly string[];
  readonly onlyInB: readonly string[];
  /** Modules of both whose layers have different sizes: they belong to different base models. */
  readonly differentShapes: readonly string[];
}

/**
 * Compares two adapters of any ranks.
 *
 * @throws {DyloraError} `E_READ`, `E_INTERRUPTED`; `E_FORMAT` for factors that are not finite
 * @see Hu et al. 2021 (arXiv:2106.09685), section 7.2, for the overlap of subspaces
 */
export async function compareAdapters(
  a: Adapter,
  b: Adapter,
  options: CompareOptions = {},
): Promise<CompareReport> {
  const inB = new Map(b.modules.map((module) => [moduleIdentity(module), module]));
  const common = a.modules.flatMap((module) => {
    const other = inB.get(moduleIdentity(module));
    return other === undefined ? [] : [{ a: module, b: other }];
  });
  const pairs = common.filter((pair) => layerOf(pair.a) === layerOf(pair.b));

  await using pool = new JobPool(factorBytes(a) + factorBytes(b));
  const reader = new ModuleReader(a, b);
  const modules: MeasuredModule[] = [];
  const results = inOrder(pairs, pool.concurrency, async (pair) => {
    throwIfAborted(options.signal, `compare ${a.path} and ${b.path}`);
    const [scaleA, scaleB] = [pair.a.alpha / pair.a.rank, pair.b.alpha / pair.b.rank];
    return reader.with(a, pair.a, (bytesA) =>
      reader.with(b, pair.b, (bytesB) => pool.run("compare", { a: bytesA, b: bytesB, scaleA, scaleB })),
    );
  });
  for await (const { normA, normB, differenceNorm, innerProduct, columnAngles, rowAngles } of results) {
    const pair = pairs[modules.length]!;
    const { name, component, kind } = pair.a;
    modules.push({
      name,
      component,
      kind,
      ranks: [pair.a.rank, pair.b.rank],
      norms: [normA, normB],
      relativeDifference: quotient(differenceNorm, normA),
      cosine: quotient(innerProduct, normA * normB),
      columnAngles,
      rowAngles,
      columnOverlap: overlap(columnAngles),
      rowOverlap: overlap(rowAngles),
      differenceNorm,
      innerProduct,
    });
    options.onProgress?.({ doneModules: modules.length, totalModules: pairs.length });
  }
  const [pairedA, pairedB] = [new Set(common.map((pair) => pair.a)), new Set(common.map((pair) => pair.b))];
  return {
    a: { path: a.path, maxRank: a.maxRank, moduleCount: a.modules.length },
    b: { path: b.path, maxRank: b.maxRank, moduleCount: b.modules.length },
    modules: modules.map(({ differenceNorm: _, innerProduct: __, ...module }) => module),
    totals: totals(modules),
    onlyInA: a.modules.filter((module) => !pairedA.has(module)).map(({ name }) => name),
    onlyInB: b.modules.filter((module) => !pairedB.has(module)).map(({ name }) => name),
    differentShapes: common.filter((pair) => layerOf(pair.a) !== layerOf(pair.b)).map((pair) => pair.a.name),
  };
}

interface MeasuredModule extends ComparedModule {
  readonly differenceNorm: number;
  readonly innerProduct: number;
}

/** A 1x1 convolution that is stored in two dimensions is the same product as one in four. */
function layerOf(module: LoraModule): string {
  const inputs = parameterCount(module) / module.rank - module.outFeatures;
  return `${inputs} ${module.outFeatures}`;
}

function totals(modules: readonly MeasuredModule[]): ComparedTotal[] {
  const components = COMPONENTS.filter((component) =>
    modules.some((module) => module.component === component),
  );
  return [
    total("all", modules),
    ...(components.length > 1
      ? components.map((component) =>
          total(
            component,
            modules.filter((module) => module.component === component),
          ),
        )
      : []),
  ];
}

function total(component: Component | "all", modules: readonly MeasuredModule[]): ComparedTotal {
  const sum = (value: (module: MeasuredModule) => number) =>
    modules.reduce((total, module) => total + value(module), 0);
  const norms = [0, 1].map((i) => Math.sqrt(sum((module) => module.norms[i]! ** 2))) as [number, number];
  return {
    component,
    modules: modules.length,
    norms,
    relativeDifference: quotient(Math.sqrt(sum(({ differenceNorm }) => differenceNorm ** 2)), norms[0]),
    cosine: quotient(
      sum(({ innerProduct }) => innerProduct),
      norms[0] * norms[1],
    ),
    columnOverlap: mean(modules.map(({ columnOverlap }) => columnOverlap)),
    rowOverlap: mean(modules.map(({ rowOverlap }) => rowOverlap)),
  };
}

function overlap(angles: readonly number[]): number | null {
  return mean(angles.map((angle) => Math.cos((angle * Math.PI) / 180) ** 2));
}

function mean(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0) / known.length;
}

function quotient(value: number, by: number): number | null {
  return by === 0 ? null : value / by;
}
