import type { MixedModule, MixedRanks } from "../surgery/index.js";
import { formatBytes, formatPercent } from "./format.js";
import { printable } from "./printable.js";
import { type Column, renderTable } from "./table.js";
import type { OutputStream } from "./terminal.js";

export interface MixedSections {
  /** List every module. */
  readonly modules: boolean;
}

/** Which ranks were chosen, by part of the model and on request by module. */
export function mixedRanksText(mixed: MixedRanks, shown: MixedSections, out: OutputStream): string {
  const { modules } = mixed;
  return [
    `${headline(mixed)}\n\n`,
    renderTable(partsOf(modules), partColumns(modules), out),
    shown.modules ? `\n${renderTable(modules, MODULE_COLUMNS, out)}` : "",
    "\n",
  ].join("");
}

function headline({ budgetBytes, kept, uniform }: MixedRanks): string {
  const budget = `budget ${formatBytes(budgetBytes)}`;
  const share = (value: number) => formatPercent(100 * value);
  if (kept === null) {
    const common =
      uniform === null ? "" : `; rank ${uniform.rank} everywhere takes ${formatBytes(uniform.sizeBytes)}`;
    return `${budget}: ranks by the loss on the images${common}`;
  }
  const common =
    uniform === null
      ? "no rank for all modules is as small"
      : `rank ${uniform.rank} everywhere (${formatBytes(uniform.sizeBytes)}) would keep ${share(uniform.kept!)}`;
  return `${budget}: keeps ${share(kept)} of the full rank's energy; ${common}`;
}

interface Part {
  readonly title: string;
  readonly modules: readonly MixedModule[];
}

/** Blocks of the U-Net as diffusers and the original checkpoints name them. */
const BLOCK = /^lora_unet_((?:down|up|input|output)_blocks_\d+|mid_block|middle_block)/;

const COMPONENT_NAMES: Readonly<Record<MixedModule["component"], string>> = {
  unet: "U-Net, other",
  text_encoder: "text encoder",
  text_encoder_2: "text encoder 2",
};

function partsOf(modules: readonly MixedModule[]): Part[] {
  const parts = new Map<string, MixedModule[]>();
  for (const module of modules) {
    const block = module.component === "unet" ? BLOCK.exec(module.name)?.[1] : undefined;
    const title = block ?? COMPONENT_NAMES[module.component];
    parts.set(title, [...(parts.get(title) ?? []), module]);
  }
  return [...parts].map(([title, own]) => ({ title, modules: own }));
}

/** More distinct ranks than this would not fit beside each other: then only their range is shown. */
const MAX_RANK_COLUMNS = 9;

function partColumns(modules: readonly MixedModule[]): Column<Part>[] {
  const ranks = [...new Set(modules.map(({ rank }) => rank))].sort((a, b) => a - b);
  const counts = ranks.map(
    (rank): Column<Part> => ({
      title: `rank ${rank}`,
      align: "right",
      value: (part) => String(part.modules.filter((module) => module.rank === rank).length || "-"),
    }),
  );
  const range: Column<Part> = {
    title: "ranks",
    align: "right",
    value: (part) => {
      const own = part.modules.map(({ rank }) => rank);
      return `${Math.min(...own)} to ${Math.max(...own)}`;
    },
  };
  return [
    { title: "part", value: ({ title }) => title },
    { title: "modules", align: "right", value: (part) => String(part.modules.length) },
    ...(ranks.length <= MAX_RANK_COLUMNS ? counts : [range]),
    {
      title: "mean rank",
      align: "right",
      value: (part) => (sum(part.modules.map(({ rank }) => rank)) / part.modules.length).toFixed(1),
    },
    {
      title: "size",
      align: "right",
      value: (part) => formatBytes(sum(part.modules.map(({ sizeBytes }) => sizeBytes))),
    },
  ];
}

const MODULE_COLUMNS: readonly Column<MixedModule>[] = [
  { title: "module", value: ({ name }) => printable(name), shorten: true },
  { title: "rank", align: "right", value: ({ rank, maxRank }) => `${rank} of ${maxRank}` },
  { title: "kept", align: "right", value: ({ kept }) => (kept === null ? "-" : formatPercent(100 * kept)) },
  { title: "size", align: "right", value: ({ sizeBytes }) => formatBytes(sizeBytes) },
];

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
