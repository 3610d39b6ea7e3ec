/** Which rank each component gets in each copy. */
import type { Adapter, Component, LoraModule } from "../../adapter/index.js";
import { DyloraError } from "../../errors.js";
import { type RankSelection, selectRanks } from "./select-ranks.js";

/** The parts of a pipeline that can have ranks of their own; `te` is every text encoder. */
export const RANK_GROUPS = ["unet", "te"] as const;
export type RankGroup = (typeof RANK_GROUPS)[number];

const GROUP_TITLES: Readonly<Record<RankGroup, string>> = { unet: "U-Net", te: "text encoder" };

export function rankGroup(component: Component): RankGroup {
  return component === "unet" ? "unet" : "te";
}

/** By component; one that the file does not have is missing. */
export type GroupRanks = Readonly<Partial<Record<RankGroup, number>>>;

/**
 * The ranks of each copy: those of the selection, ascending, for every component without a fixed rank.
 *
 * @param fixed - ranks that are the same in every copy
 * @param selection - null: such a component keeps its full rank, and there is one copy
 * @throws {DyloraError} `E_RANK` for a rank that a component does not have; `E_INCOMPATIBLE` for a component that the
 *   file does not have; `E_USAGE` for a selection that no component is left for
 */
export function selectGroupRanks(
  { modules, dylora }: Pick<Adapter, "modules" | "dylora">,
  selection: RankSelection | null,
  fixed: GroupRanks,
  subject: string,
): GroupRanks[] {
  const full = fullRanks(modules);
  for (const group of RANK_GROUPS) {
    const rank = fixed[group];
    if (rank === undefined) continue;
    const title = GROUP_TITLES[group];
    const maxRank = full[group];
    if (maxRank === undefined) {
      throw new DyloraError("E_INCOMPATIBLE", `${subject}: it has no modules of the ${title}`, {
        note: `Nothing was written. Leave out --${group}-rank.`,
      });
    }
    selectRanks({ ranks: [rank] }, { ...dylora, maxRank }, `${subject}: ${title}`);
  }
  const fixedHere = { ...full, ...fixed };
  if (selection === null) return [fixedHere];
  const free = RANK_GROUPS.filter((group) => full[group] !== undefined && fixed[group] === undefined);
  if (free.length === 0) {
    throw new DyloraError("E_USAGE", `${subject}: every component has a rank of its own already`, {
      note: "Nothing was written. Leave out --ranks, --unit and --all, or one of --unet-rank and --te-rank.",
    });
  }
  const maxRank = Math.max(...free.map((group) => full[group]!));
  return selectRanks(selection, { ...dylora, maxRank }, subject).map((rank) => ({
    ...fixedHere,
    ...Object.fromEntries(free.map((group) => [group, rank])),
  }));
}

/** The largest rank of each component's modules. */
function fullRanks(modules: readonly LoraModule[]): GroupRanks {
  const ranks: Partial<Record<RankGroup, number>> = {};
  for (const group of RANK_GROUPS) {
    const own = modules.filter(({ component }) => rankGroup(component) === group);
    if (own.length > 0) ranks[group] = Math.max(...own.map(({ rank }) => rank));
  }
  return ranks;
}
