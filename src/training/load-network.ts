/** `--network_weights`: training that goes on from the factors of a LoRA file. */

import { type Adapter, type LoraModule, openAdapter, readFactors } from "../adapter/index.js";
import type { BranchFactors } from "../denoiser/factors.js";
import { DyloraError } from "../errors.js";
import { checkAdapterFitsBase } from "../models/base-match.js";
import type { LoraTarget } from "../models/lora-targets.js";
import { freshModule, type NetworkSizes, sizeOf } from "./network.js";

const NOTHING_STARTED = "Nothing was started, and the file was not changed.";

/**
 * Ranks and alphas that a file was trained with, for `--dim_from_weights`.
 *
 * @throws {DyloraError} `E_INCOMPATIBLE` where its modules of one kind differ in rank or alpha
 */
export async function sizesFromWeights(path: string): Promise<NetworkSizes> {
  await using adapter = await openAdapter(path);
  const uniform = (modules: readonly LoraModule[], what: string) => {
    const first = modules[0];
    if (first === undefined) return null;
    const other = modules.find(({ rank, alpha }) => rank !== first.rank || alpha !== first.alpha);
    if (other === undefined) return first;
    throw new DyloraError(
      "E_INCOMPATIBLE",
      `--dim_from_weights: the ${what} of ${path} differ: ${first.name} has rank ${first.rank} and alpha ${first.alpha}, ` +
        `${other.name} ${other.rank} and ${other.alpha}`,
      { note: `Training needs one rank for all of them. ${NOTHING_STARTED}` },
    );
  };
  const conv = uniform(
    adapter.modules.filter(({ kind }) => kind === "conv3x3"),
    "3x3 convolutions",
  );
  const linear = uniform(
    adapter.modules.filter(({ kind }) => kind !== "conv3x3"),
    "Linear modules",
  );
  if (linear === null) {
    throw new DyloraError("E_INCOMPATIBLE", `--dim_from_weights: ${path} adapts no Linear module`, {
      note: NOTHING_STARTED,
    });
  }
  return {
    rank: linear.rank,
    alpha: linear.alpha,
    convRank: conv?.rank ?? null,
    convAlpha: conv?.alpha ?? null,
  };
}

/**
 * The factors of a file as the start of a run.
 *
 * A file of a lower rank (an extracted one, say) fills the first components; the others start as in a fresh adapter,
 * where `up` is zero, so at the file's rank the run starts with exactly the function of the file. If its alpha is another
 * one, the difference goes into `up`, for the same reason. (sd-scripts takes the factors as they are, whatever the alpha.)
 *
 * @param allTargets - everything that the base model offers, to tell a foreign module from one that is not trained
 * @throws {DyloraError} `E_RANK` for a rank above the run's, `E_INCOMPATIBLE` for modules that do not match those that
 *   are trained; both name the module and the option to change
 */
export async function loadNetwork(
  path: string,
  targets: readonly LoraTarget[],
  allTargets: readonly LoraTarget[],
  sizes: NetworkSizes,
  seed: number,
): Promise<BranchFactors[]> {
  await using adapter = await openAdapter(path);
  checkAdapterFitsBase(allTargets, adapter.modules);
  const modules = new Map(adapter.modules.map((module) => [module.name, module]));
  checkSameModules(adapter, modules, targets);
  const network: BranchFactors[] = [];
  for (const target of targets) {
    const module = modules.get(target.name)!;
    const { rank, alpha } = sizeOf(target, sizes);
    checkRank(path, module, rank);
    const fresh = freshModule(target, rank, alpha, seed);
    const { down, upT } = await readFactors(adapter.file, module);
    fresh.down.set(down);
    const strength = module.alpha / alpha;
    fresh.up.set(strength === 1 ? upT : upT.map((value) => value * strength));
    network.push(fresh);
  }
  return network;
}

function checkSameModules(
  { path }: Adapter,
  modules: ReadonlyMap<string, LoraModule>,
  targets: readonly LoraTarget[],
): void {
  const trained = new Set(targets.map(({ name }) => name));
  const surplus = [...modules.values()].find(({ name }) => !trained.has(name));
  if (surplus !== undefined) {
    throw new DyloraError(
      "E_INCOMPATIBLE",
      `--network_weights: ${path} has ${surplus.name}, which this run does not train`,
      {
        note: `${surplusRemedy(surplus)} ${NOTHING_STARTED}`,
      },
    );
  }
  const missing = targets.find(({ name }) => !modules.has(name));
  if (missing !== undefined) {
    throw new DyloraError(
      "E_INCOMPATIBLE",
      `--network_weights: ${path} has no ${missing.name}, which this run trains`,
      {
        note: `${missingRemedy(missing)} ${NOTHING_STARTED}`,
      },
    );
  }
}

function surplusRemedy(module: LoraModule): string {
  if (module.component === "text_encoder")
    return "Leave out --network_train_unet_only to train its text encoder on.";
  if (module.kind === "conv3x3" || /_resnets_|samplers_/.test(module.name)) {
    return `Add conv_dim=${module.rank} to --network_args to train its convolutions on.`;
  }
  return "Leave out --network_train_text_encoder_only to train its U-Net on.";
}

function missingRemedy(target: LoraTarget): string {
  if (target.component === "text_encoder")
    return "Add --network_train_unet_only: the file adapts the U-Net alone.";
  if (target.kind === "conv3x3" || /_resnets_|samplers_/.test(target.name)) {
    return "Leave conv_dim out of --network_args: the file has no adapted convolutions.";
  }
  return "Add --network_train_text_encoder_only: the file adapts the text encoder alone.";
}

function checkRank(path: string, module: LoraModule, rank: number): void {
  if (module.rank <= rank) return;
  const option =
    module.kind === "conv3x3" ? `conv_dim=${module.rank} in --network_args` : `--network_dim ${module.rank}`;
  throw new DyloraError(
    "E_RANK",
    `--network_weights: ${module.name} of ${path} has rank ${module.rank}, the run ${rank}`,
    {
      note: `Use ${option} (or --dim_from_weights), or extract rank ${rank} from the file first: \`dylora extract\`. ${NOTHING_STARTED}`,
    },
  );
}
