/** From the weights that a model must have to the places in files where they are. */
import type { WeightShapes } from "../weight-shapes.js";
import type { OriginalTensor } from "./original-names.js";
import { formatShape, incompatible, nameSome } from "./problem.js";
import type { FileTensor } from "./tensor-index.js";
import type { WeightRef, Weights } from "./types.js";

/** A tensor in a file, or one of `count` equal row blocks of it. */
export interface LocatedTensor {
  readonly tensor: FileTensor;
  readonly rows: OriginalTensor["rows"];
}

export interface CollectOptions {
  /** Checkpoint, for messages. */
  readonly path: string;
  /** What is being collected, for messages: "U-Net", "text encoder", "VAE". */
  readonly part: string;
  /** Canonical names and shapes of all weights. */
  readonly shapes: WeightShapes;
  /** Where the shapes come from, for messages: "unet/config.json", "the sizes of the other tensors". */
  readonly shapesFrom: string;
  readonly locate: (canonicalName: string) => LocatedTensor | undefined;
  /** Take `[out, in, 1, 1]` for `[out, in]`: the VAE's attention was made of 1x1 convolutions once. Default false. */
  readonly convAsLinear?: boolean;
}

/**
 * Finds every weight of a model part and checks its shape and dtype. Tensors that the model does not have are ignored.
 *
 * @returns canonical name to place, in the order of `shapes`
 * @throws {DyloraError} `E_INCOMPATIBLE` naming missing tensors, a wrong shape or a dtype other than F32, F16, BF16
 */
export function collectWeights(options: CollectOptions): Weights {
  const found = new Map<string, LocatedTensor>();
  const missing: string[] = [];
  for (const name of options.shapes.keys()) {
    const located = options.locate(name);
    if (located === undefined) missing.push(name);
    else found.set(name, located);
  }
  // First, because a wrong number of layers also changes the shapes that are expected of others.
  if (missing.length > 0) {
    throw incompatible(
      options.path,
      `${missing.length} of the ${options.shapes.size} tensors of the ${options.part} are missing: ${nameSome(missing)}`,
      "The file is incomplete, or not a Stable Diffusion 1.x or 2.x model. Get it again, or give another checkpoint.",
    );
  }
  const weights = new Map<string, WeightRef>();
  for (const [name, located] of found) {
    weights.set(name, weightRef(options, name, options.shapes.get(name)!, located));
  }
  return weights;
}

function weightRef(
  options: CollectOptions,
  name: string,
  shape: readonly number[],
  { tensor, rows }: LocatedTensor,
): WeightRef {
  const { info, filePath } = tensor;
  const { dtype, sizeBytes, offsetBytes } = info;
  if (dtype !== "F32" && dtype !== "F16" && dtype !== "BF16") {
    throw incompatible(
      options.path,
      `tensor ${info.name} is stored as ${dtype}; expected F32, F16 or BF16`,
      `Give a float16 or float32 version of the checkpoint${dtype === "F64" ? " (save it again after model.float())" : ""}.`,
    );
  }
  const blocks = rows?.count ?? 1;
  const expected = rows === null ? shape : [shape[0]! * blocks, ...shape.slice(1)];
  if (!hasShape(info.shape, expected, options.convAsLinear ?? false)) {
    const alias = info.name === name ? "" : ` (${name})`;
    throw incompatible(
      options.path,
      `tensor ${info.name}${alias} of the ${options.part} has shape ${formatShape(info.shape)}; ` +
        `expected ${formatShape(expected)} from ${options.shapesFrom}`,
      "Parts of different models may have been mixed. Give an unmodified checkpoint.",
    );
  }
  // Rows are contiguous, so a block of them is a range of bytes.
  const blockBytes = sizeBytes / blocks;
  return {
    filePath,
    dtype,
    offsetBytes: offsetBytes + (rows?.index ?? 0) * blockBytes,
    sizeBytes: blockBytes,
    shape,
  };
}

function hasShape(found: readonly number[], expected: readonly number[], convAsLinear: boolean): boolean {
  const sizes = convAsLinear && expected.length === 2 && found.length === 4 ? [...expected, 1, 1] : expected;
  return found.length === sizes.length && found.every((size, i) => size === sizes[i]);
}

/**
 * Refuses tensors that sit inside a model part but are not in its structure: running the model without them would compute
 * something else than its authors meant.
 */
export function refuseUnknownTensors(
  path: string,
  part: string,
  present: Iterable<string>,
  known: ReadonlySet<string>,
): void {
  const unknown = [...present].filter((name) => !known.has(name));
  if (unknown.length === 0) return;
  throw incompatible(
    path,
    `the ${part} has ${unknown.length} tensors that Stable Diffusion 1.x and 2.x do not have: ${nameSome(unknown)}`,
    "It is a model of another architecture, or one with extra modules baked in. Give a plain Stable Diffusion checkpoint.",
  );
}
