/**
 * What happens to a caption each time its image is shown. Order and defaults are sd-scripts': prefix and suffix, then
 * dropout, then shuffling behind the kept tokens.
 */
import type { RandomStream } from "../random/stream.js";

/** Options under sd-scripts' names, where "tokens" are the comma-separated tags; a missing option is off. */
export interface CaptionOptions {
  /** `--caption_prefix`: put before every caption, with a space. */
  prefix?: string;
  /** `--caption_suffix`: put behind every caption, with a space. */
  suffix?: string;
  /** `--caption_dropout_rate`: probability, 0 to 1, that the caption is empty this time (unconditional training). */
  dropoutRate?: number;
  /** `--shuffle_caption`: tags in random order. */
  shuffle?: boolean;
  /** `--keep_tokens`: this many leading tags stay in place when shuffling; default 0. */
  keepTokens?: number;
  /** `--caption_separator`: between tags; default ",". Shuffled tags are joined with ", " whatever the separator. */
  separator?: string;
}

/**
 * The caption of one sample.
 *
 * @param random - a stream of this sample's own; dropout draws first, whether it is on or not, so that turning it on
 *   does not change how the other captions are shuffled
 */
export function drawCaption(caption: string, options: CaptionOptions, random: RandomStream): string {
  const {
    prefix = "",
    suffix = "",
    dropoutRate = 0,
    shuffle = false,
    keepTokens = 0,
    separator = ",",
  } = options;
  const dropped = random.uniform() < dropoutRate;
  if (dropped) return "";
  const full = [prefix, caption, suffix].filter((part) => part !== "").join(" ");
  if (!shuffle) return full;
  const tags = full.split(separator).map((tag) => tag.trim());
  return [...tags.slice(0, keepTokens), ...random.shuffle(tags.slice(keepTokens))].join(", ");
}

/** Whether every sample of an item has the same caption, so that its text encoder output can be cached. */
export function isCaptionFixed({ dropoutRate = 0, shuffle = false }: CaptionOptions): boolean {
  return dropoutRate === 0 && !shuffle;
}
