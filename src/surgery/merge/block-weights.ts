/**
 * Weights of single blocks of the U-Net, in the words of sd-webui-lora-block-weight, supermerger and sd-scripts' `--lbws`.
 *
 * `BASE` is the text encoder (both of SDXL's), `IN00`…`IN11` the U-Net's input blocks, `M00` its middle block,
 * `OUT00`…`OUT11` its output blocks, counted as in the original Stable Diffusion code: three to a level, the third being
 * the resampler.
 */
import { DyloraError } from "../../errors.js";

function numbered(prefix: string, numbers: readonly number[]): string[] {
  return numbers.map((number) => `${prefix}${String(number).padStart(2, "0")}`);
}

const upTo = (count: number) => Array.from({ length: count }, (_, i) => i);

/** Every block there is, in the order of the list of 26. */
export const BLOCKS: readonly string[] = [
  "BASE",
  ...numbered("IN", upTo(12)),
  "M00",
  ...numbered("OUT", upTo(12)),
];

/** What the values of a list of that length stand for. */
const LISTS: ReadonlyMap<number, { readonly title: string; readonly blocks: readonly string[] }> = new Map([
  [
    12,
    {
      title: "SDXL, attention only",
      blocks: ["BASE", ...numbered("IN", [4, 5, 7, 8]), "M00", ...numbered("OUT", upTo(6))],
    },
  ],
  [
    17,
    {
      title: "SD 1.x and 2.x, attention only",
      blocks: [
        "BASE",
        ...numbered("IN", [1, 2, 4, 5, 7, 8]),
        "M00",
        ...numbered("OUT", [3, 4, 5, 6, 7, 8, 9, 10, 11]),
      ],
    },
  ],
  [
    20,
    {
      title: "SDXL with convolutions",
      blocks: ["BASE", ...numbered("IN", upTo(9)), "M00", ...numbered("OUT", upTo(9))],
    },
  ],
  [26, { title: "SD 1.x and 2.x with convolutions", blocks: BLOCKS }],
]);

/** Names that stand for several blocks. */
const GROUPS: Readonly<Record<string, (block: string) => boolean>> = {
  TE: (block) => block === "BASE",
  MID: (block) => block === "M00",
  IN: (block) => block.startsWith("IN"),
  OUT: (block) => block.startsWith("OUT"),
  UNET: (block) => block !== "BASE",
  ALL: () => true,
};

/** By block; what is missing has weight 1. */
export type BlockWeights = ReadonlyMap<string, number>;

/**
 * Reads block weights.
 *
 * @param text - 12, 17, 20 or 26 numbers separated by commas, in brackets or not; or `BLOCK=number` pairs, later ones winning: `OUT=0.5,OUT04=0`
 *   (`IN`, `OUT`, `MID`, `TE`, `UNET` and `ALL` are groups); or one number, the weight of everything
 * @throws {DyloraError} `E_USAGE`
 */
export function parseBlockWeights(text: string): BlockWeights {
  // sd-scripts' --lbws is a JSON list.
  const parts = text
    .replace(/^\s*\[(.*)\]\s*$/s, "$1")
    .split(",")
    .map((part) => part.trim());
  if (parts.some((part) => part.includes("="))) return namedWeights(parts, text);
  const values = parts.map((part) => weightOf(part, text));
  if (values.length === 1) return new Map(BLOCKS.map((block) => [block, values[0]!]));
  const list = LISTS.get(values.length);
  if (list === undefined) {
    const lengths = [...LISTS].map(([length, { title }]) => `${length} (${title})`).join(", ");
    throw usage(`${values.length} values in ${text}`, `Give one value, ${lengths}, or BLOCK=value pairs.`);
  }
  return new Map(list.blocks.map((block, i) => [block, values[i]!]));
}

function namedWeights(parts: readonly string[], text: string): BlockWeights {
  const weights = new Map<string, number>();
  for (const part of parts) {
    const [name = "", value, ...more] = part.split("=");
    if (value === undefined || more.length > 0) {
      throw usage(`${part} is no BLOCK=value pair in ${text}`, "Lists of values and pairs do not mix.");
    }
    const key = name.trim().toUpperCase();
    const belongs = Object.hasOwn(GROUPS, key) ? GROUPS[key]! : (block: string) => block === key;
    const blocks = BLOCKS.filter(belongs);
    if (blocks.length === 0) {
      const groups = Object.keys(GROUPS).join(", ");
      throw usage(
        `there is no block ${name.trim()}`,
        `The blocks: BASE (text encoder), IN00-IN11, M00, OUT00-OUT11; groups: ${groups}.`,
      );
    }
    for (const block of blocks) weights.set(block, weightOf(value, text));
  }
  // Who names some blocks knows of the others; a list that is short of some may be for another kind of model.
  return new Map(BLOCKS.map((block) => [block, weights.get(block) ?? 1]));
}

function weightOf(text: string, list: string): number {
  const value = text.trim() === "" ? Number.NaN : Number(text);
  if (Number.isFinite(value)) return value;
  throw usage(
    `${JSON.stringify(text.trim())} is no number in ${list}`,
    "Example: 1,0.5,0.5,0,1 … or OUT=0.5.",
  );
}

function usage(problem: string, note: string): DyloraError {
  return new DyloraError("E_USAGE", `merge: block weights: ${problem}`, {
    note: `${note} Nothing was written.`,
  });
}

const DIFFUSERS_BLOCK =
  /^lora_unet_(down|up)_blocks_(\d+)_(attentions|resnets|downsamplers|upsamplers)_(\d+)_/;
const ORIGINAL_BLOCK = /^lora_unet_(input|output)_blocks_(\d+)_/;
/** Two layers and a resampler. */
const BLOCKS_PER_LEVEL = 3;

/**
 * The block of a module, by kohya's name; null for the few modules outside of all blocks (`time_embedding`, `conv_out`).
 *
 * Both namings of the U-Net's blocks are known: diffusers' (SD 1.x, 2.x) and the original one (SDXL).
 */
export function blockOfModule(name: string): string | null {
  if (/^lora_te[12]?_/.test(name)) return "BASE";
  if (/^lora_unet_mid(?:dle)?_block_/.test(name)) return "M00";
  const original = ORIGINAL_BLOCK.exec(name);
  if (original !== null) return knownBlock(original[1] === "input" ? "IN" : "OUT", Number(original[2]));
  const match = DIFFUSERS_BLOCK.exec(name);
  if (match === null) return null;
  const [, direction, level, kind, layer] = match;
  const isResampler = kind === "downsamplers" || kind === "upsamplers";
  const place = Number(level) * BLOCKS_PER_LEVEL + (isResampler ? BLOCKS_PER_LEVEL - 1 : Number(layer));
  // IN00 is conv_in.
  return direction === "down" ? knownBlock("IN", place + 1) : knownBlock("OUT", place);
}

function knownBlock(prefix: "IN" | "OUT", number: number): string | null {
  const [block] = numbered(prefix, [number]);
  return BLOCKS.includes(block!) ? block! : null;
}
