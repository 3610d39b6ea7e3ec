/** Telling safetensors files from pickles by their first bytes, before any parser sees them. */
import { open } from "node:fs/promises";
import { basename, extname } from "node:path";
import type { DyloraError } from "../../errors.js";
import { readError } from "../../io/file-error.js";
import { incompatible } from "./problem.js";

/** PyTorch's names for pickled weights. */
const PICKLE_EXTENSIONS: ReadonlySet<string> = new Set([".ckpt", ".pt", ".pth", ".bin", ".pkl"]);
/** Newest pickle protocol. */
const MAX_PICKLE_PROTOCOL = 5;
const PICKLE_PROTOCOL_OPCODE = 0x80;
const OPENING_BRACE = 0x7b;

/**
 * Refuses a pickle, by content or else by its file name; whatever else is wrong with a file, its header's reader says.
 *
 * @throws {DyloraError} `E_INCOMPATIBLE` for a pickle, with the way to a safetensors file; `E_NOT_FOUND`
 *   or `E_READ` if the file cannot be read
 */
export async function refusePickle(path: string): Promise<void> {
  if (isPickle(await readStart(path), extname(path).toLowerCase())) throw pickleError(path);
}

/** The refusal of a pickle file: why, and how to get a safetensors file from it. */
export function pickleError(path: string): DyloraError {
  const name = basename(path);
  const target = `${basename(name, extname(name))}.safetensors`;
  return incompatible(
    path,
    "this is a Python pickle (.ckpt, .pt, .bin), not a .safetensors file; loading a pickle can run any code hidden in it, " +
      "so dylora never does",
    "Get the .safetensors version of the model, or convert it where PyTorch is installed: " +
      'python -c "import torch; from safetensors.torch import save_file; ' +
      `w = torch.load('${name}', map_location='cpu', weights_only=True); w = w.get('state_dict', w); ` +
      "save_file({k: v.clone().contiguous() for k, v in w.items() if isinstance(v, torch.Tensor)}, " +
      `'${target}')" (weights_only=True keeps PyTorch from running code; if it refuses, do not trust the file).`,
  );
}

function isPickle(start: Uint8Array, extension: string): boolean {
  // A safetensors file starts with the header's length (8 bytes) and an opening brace. The length may begin with a byte
  // that also begins a pickle or a zip archive (PyTorch's newer form), so this is looked at first.
  if (start[8] === OPENING_BRACE) return false;
  const [first = 0, second = 0] = start;
  const startsZip = first === 0x50 && second === 0x4b;
  const startsPickle = first === PICKLE_PROTOCOL_OPCODE && second > 0 && second <= MAX_PICKLE_PROTOCOL;
  return startsZip || startsPickle || PICKLE_EXTENSIONS.has(extension);
}

async function readStart(path: string): Promise<Uint8Array> {
  try {
    const file = await open(path, "r");
    try {
      const { buffer, bytesRead } = await file.read(new Uint8Array(9), 0, 9, 0);
      return buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (cause) {
    throw readError(path, cause);
  }
}
