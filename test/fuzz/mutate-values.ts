/** Odd values, and small changes of texts, numbers and bytes. */
import type { RandomStream } from "../../src/random/stream.js";
import { DTYPES, type Dtype } from "../../src/safetensors/index.js";

/** Numbers that sizes and offsets trip over. */
export const NUMBERS = [
  -1,
  0,
  1,
  2,
  3,
  4,
  7,
  8,
  255,
  256,
  65_535,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32,
  2 ** 53 - 1,
  2 ** 53,
  2 ** 63,
  1e308,
  0.5,
  1.5,
];

export const TEXTS = [
  "",
  "\0",
  "\ud800",
  "__proto__",
  "constructor",
  "__metadata__",
  ".",
  "..",
  "../x",
  "/",
  "a".repeat(300),
  "𝕏",
  "é",
  "e\u0301",
  "lora_unet_",
  ".alpha",
  "lora_unet_x.alpha",
  "lora_unet_x.lora_down.weight",
  "nan",
  "None",
  "[]",
  "{}",
  "-1",
  "1e999",
  "\x1b[2J",
];

/** Values where another kind of value belongs. */
export const VALUES: readonly unknown[] = [
  null,
  true,
  [],
  {},
  [[]],
  "text",
  "F16",
  1,
  -1,
  0.5,
  1e308,
  [1, 2, 3],
  { dtype: "F16" },
  ...NUMBERS,
  ...TEXTS,
];

/** JSON that is valid and uncommon, or not valid. */
export const FRAGMENTS = [
  "{",
  "}",
  "[",
  "]",
  ",",
  ":",
  '"',
  "\\",
  "\\u0000",
  "\\ud83d",
  "null",
  "1e5",
  "01",
  "-0",
  "1.0",
  "0x1",
  "NaN",
  " ".repeat(64),
  "\n",
  "\t",
  "\ufeff",
  "\0",
  "[".repeat(200),
  '{"a":'.repeat(150),
  "9".repeat(400),
  "/*x*/",
  "'",
];

export const DTYPE_NAMES = Object.keys(DTYPES) as Dtype[];

/** JSON with pieces taken out, put in or replaced. */
export function mutateText(text: string, random: RandomStream): string {
  let mutated = text;
  for (let i = 0; i <= random.int(3); i++) {
    const at = random.int(mutated.length + 1);
    const end = Math.min(mutated.length, at + pick([0, 0, 1, 5, 40], random));
    mutated =
      mutated.slice(0, at) + (random.int(4) === 0 ? "" : pick(FRAGMENTS, random)) + mutated.slice(end);
  }
  return mutated;
}

export function changeNumbers(numbers: unknown, random: RandomStream): unknown {
  if (!Array.isArray(numbers) || random.int(6) === 0) return pick(VALUES, random);
  const changed = [...numbers];
  const index = random.int(changed.length + 1);
  switch (random.int(4)) {
    case 0:
      changed[index] = pick(NUMBERS, random);
      return changed;
    case 1:
      changed[index] = ((changed[index] as number | undefined) ?? 0) + random.int(5) - 2;
      return changed;
    case 2:
      changed.splice(index, 1);
      return changed;
    default:
      return changed.reverse();
  }
}

export function changeBytes(bytes: Buffer, begin: number, end: number, random: RandomStream): Buffer {
  for (let i = 0; i <= random.int(8); i++) {
    const at = begin + random.int(end - begin);
    bytes[at] = random.int(2) === 0 ? bytes[at]! ^ (1 << random.int(8)) : random.int(256);
  }
  return bytes;
}

/** Another letter, a piece less, a piece twice: still a name of the same kind, mostly. */
export function changeText(text: string, random: RandomStream): string {
  const at = random.int(text.length + 1);
  switch (random.int(5)) {
    case 0:
      return text.slice(0, at) + text.slice(at + 1);
    case 1:
      return text.slice(0, at) + String.fromCharCode(32 + random.int(95)) + text.slice(at);
    case 2:
      return text.replace(/\d+/, () => String(pick([0, 1, 9, 31, 99, 1e9], random)));
    case 3:
      return text.replace(/lora_(down|up)|lora_([AB])|alpha/, () =>
        pick(
          ["lora_down", "lora_up", "lora_A", "lora_B", "alpha", "hada_w1_a", "dora_scale", "lora_mid"],
          random,
        ),
      );
    default:
      return wellFormed(pick(TEXTS, random));
  }
}

/** Without halves of surrogate pairs, which a header cannot hold. */
export function wellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, "?");
}

export function pick<T>(items: readonly T[], random: RandomStream): T {
  return items[random.int(items.length)]!;
}
