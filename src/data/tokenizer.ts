/**
 * Prompts to token ids, as Stable Diffusion's text encoders want them.
 */
import { access, readFile } from "node:fs/promises";
import { join } from "node:path";
import { Tokenizer } from "@huggingface/tokenizers";
import { DyloraError } from "../errors.js";
import { readError } from "../io/file-error.js";
import { cleanClipText } from "./clip-text.js";
import {
  bundledClipVocabulary,
  clipTokenizerJson,
  END_TOKEN,
  parseMerges,
  START_TOKEN,
} from "./clip-vocabulary.js";

/** Length of the text encoder's input: start token, up to 75 tokens, end token. */
export const CLIP_TOKENS = 77;

export interface TokenizedPrompt {
  /** Always `CLIP_TOKENS` ids: start, the prompt, end, padding. */
  readonly ids: readonly number[];
  /** Tokens of the whole prompt, without start, end and padding. */
  readonly tokenCount: number;
  /** Tokens at the end of the prompt that found no place and are not in `ids`; 0 for a prompt of up to 75 tokens. */
  readonly truncatedTokens: number;
}

export interface ClipTokenizerOptions {
  /** The checkpoint's `tokenizer` folder (`Checkpoint.tokenizerDir`); null for the bundled CLIP vocabulary. */
  tokenizerDir: string | null;
  /** Decides the padding where the folder does not name it: the end token for sd1, id 0 ("!") for sd2. */
  version: "sd1" | "sd2";
}

/**
 * CLIP's tokenizer.
 *
 * Prompts are cleaned as openai/CLIP and sd-scripts clean them (see `cleanClipText`), whatever the source of the
 * vocabulary, so a prompt has the same ids from a single-file checkpoint and from a diffusers folder.
 */
export class ClipTokenizer {
  /** Where the vocabulary came from, for the log: a path, or "bundled CLIP vocabulary". */
  readonly source: string;
  readonly startId: number;
  readonly endId: number;
  readonly padId: number;
  /** One more than the largest id: the text encoder's embedding must have at least this many rows. */
  readonly vocabularySize: number;
  readonly #tokenizer: Tokenizer;

  /** @throws {DyloraError} `E_INCOMPATIBLE` if the vocabulary lacks CLIP's start and end tokens */
  constructor(tokenizer: Tokenizer, source: string, pad: { token: string | null; version: "sd1" | "sd2" }) {
    const startId = tokenizer.token_to_id(START_TOKEN);
    const endId = tokenizer.token_to_id(END_TOKEN);
    if (startId === undefined || endId === undefined) {
      throw new DyloraError(
        "E_INCOMPATIBLE",
        `tokenizer: ${source} has no ${START_TOKEN} and ${END_TOKEN} tokens`,
        {
          note: "It is not a CLIP tokenizer, which Stable Diffusion 1 and 2 need.",
        },
      );
    }
    const padOfVersion = pad.version === "sd1" ? endId : 0;
    this.source = source;
    this.startId = startId;
    this.endId = endId;
    this.padId = pad.token === null ? padOfVersion : (tokenizer.token_to_id(pad.token) ?? padOfVersion);
    this.vocabularySize = tokenizer.get_vocab().size;
    this.#tokenizer = tokenizer;
  }

  encode(prompt: string): TokenizedPrompt {
    const { ids: tokens } = this.#tokenizer.encode(cleanClipText(prompt), { add_special_tokens: false });
    const kept = tokens.slice(0, CLIP_TOKENS - 2);
    const ids = new Array<number>(CLIP_TOKENS).fill(this.padId);
    [this.startId, ...kept, this.endId].forEach((id, index) => {
      ids[index] = id;
    });
    return { ids, tokenCount: tokens.length, truncatedTokens: tokens.length - kept.length };
  }
}

/** Made once: its tables take about a second to build, and it is the same for every checkpoint. */
let bundledTokenizer: Promise<Tokenizer> | undefined;

/**
 * Loads the tokenizer of a checkpoint: `tokenizer.json`, or else `vocab.json` with `merges.txt`, from its tokenizer
 * folder; the bundled vocabulary, which Stable Diffusion 1 and 2 share, where it has none.
 *
 * @throws {DyloraError} `E_NOT_FOUND` if the folder lacks those files, `E_FORMAT` if they are damaged,
 *   `E_INCOMPATIBLE` if they are not CLIP's
 */
export async function loadClipTokenizer({
  tokenizerDir,
  version,
}: ClipTokenizerOptions): Promise<ClipTokenizer> {
  if (tokenizerDir === null) {
    bundledTokenizer ??= bundledClipVocabulary().then(
      (vocabulary) => new Tokenizer(clipTokenizerJson(vocabulary), {}),
    );
    return new ClipTokenizer(await bundledTokenizer, "bundled CLIP vocabulary", { token: null, version });
  }
  const { json, source } = await readTokenizerFolder(tokenizerDir);
  let tokenizer: Tokenizer;
  try {
    tokenizer = new Tokenizer(json, {});
  } catch (cause) {
    throw new DyloraError("E_FORMAT", `tokenizer: ${source} is not a usable tokenizer: ${messageOf(cause)}`, {
      cause,
    });
  }
  return new ClipTokenizer(tokenizer, source, { token: await readPadToken(tokenizerDir), version });
}

async function readTokenizerFolder(dir: string): Promise<{ json: object; source: string }> {
  const jsonPath = join(dir, "tokenizer.json");
  if (await exists(jsonPath)) return { json: await readJson(jsonPath), source: jsonPath };
  const vocabPath = join(dir, "vocab.json");
  const mergesPath = join(dir, "merges.txt");
  if (!(await exists(vocabPath)) || !(await exists(mergesPath))) {
    throw new DyloraError(
      "E_NOT_FOUND",
      `tokenizer: ${dir} holds neither tokenizer.json nor vocab.json with merges.txt`,
      { note: "Complete the folder, or remove it: the bundled CLIP vocabulary is used then." },
    );
  }
  const vocab = (await readJson(vocabPath)) as Record<string, number>;
  const merges = parseMerges(await readText(mergesPath));
  return { json: clipTokenizerJson({ vocab, merges }), source: vocabPath };
}

/** The padding token that the folder names, or null. */
async function readPadToken(dir: string): Promise<string | null> {
  for (const name of ["special_tokens_map.json", "tokenizer_config.json"]) {
    const path = join(dir, name);
    if (!(await exists(path))) continue;
    const { pad_token: pad } = (await readJson(path)) as { pad_token?: string | { content?: string } | null };
    const token = typeof pad === "string" ? pad : pad?.content;
    if (token !== undefined) return token;
  }
  return null;
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw readError(path, cause);
  }
}

async function readJson(path: string): Promise<object> {
  const text = await readText(path);
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null || Array.isArray(value))
      throw new Error("not a JSON object");
    return value;
  } catch (cause) {
    throw new DyloraError("E_FORMAT", `tokenizer: ${path} cannot be read: ${messageOf(cause)}`, { cause });
  }
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
