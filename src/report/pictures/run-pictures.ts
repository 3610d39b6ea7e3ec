/** The pictures that a run drew, over its steps. */

import { formatCount } from "../../format.js";
import type { LoggedPicture } from "../training/run-log.js";
import { thinned } from "../training/series.js";
import { embedFile } from "./embed-picture.js";
import type { EmbeddedPicture, PictureGrid } from "./picture-grid.js";

/** Columns: more are no longer compared, and make the page heavy. */
const MOST_STEPS = 10;

/** Embeds pictures once, however often a page is written. */
export class PictureStore {
  readonly #embedded = new Map<string, Promise<EmbeddedPicture | null>>();

  /** Null for a picture that is gone. */
  get(path: string): Promise<EmbeddedPicture | null> {
    const known = this.#embedded.get(path);
    if (known !== undefined) return known;
    const picture = embedFile(path).catch(() => null);
    this.#embedded.set(path, picture);
    return picture;
  }

  /** Forgets all others: a long run draws more than memory should hold. */
  keep(paths: ReadonlySet<string>): void {
    for (const path of this.#embedded.keys()) if (!paths.has(path)) this.#embedded.delete(path);
  }
}

/** One row for each prompt (and rank, where several are drawn), one column for each step; null where nothing was drawn. */
export async function runPictureGrid(
  pictures: readonly LoggedPicture[],
  store: PictureStore,
): Promise<PictureGrid | null> {
  if (pictures.length === 0) return null;
  const steps = thinned([...new Set(pictures.map(({ step }) => step))], MOST_STEPS);
  const shown = new Set(steps);
  store.keep(new Set(pictures.filter(({ step }) => shown.has(step)).map(({ path }) => path)));
  const ranks = new Set(pictures.map(({ rank }) => rank));
  const rows = new Map<string, LoggedPicture[]>();
  for (const picture of pictures) {
    const key = JSON.stringify([picture.prompt, picture.seed, picture.rank]);
    rows.set(key, [...(rows.get(key) ?? []), picture]);
  }
  return {
    id: "samples",
    caption: "Drawn while training, every time from the same noise.",
    axis: "Step",
    walk: "Enlarge, and walk through the steps",
    columns: steps.map((step) => ({ title: `step ${formatCount(step)}` })),
    rows: await Promise.all(
      [...rows.values()].map(async (row) => {
        const { prompt, seed, rank } = row[0]!;
        const ofRank = ranks.size > 1 ? `, ${rank === 0 ? "base model" : `rank ${rank}`}` : "";
        return {
          prompt,
          details: `seed ${seed}${ofRank}`,
          pictures: await Promise.all(
            steps.map(async (step) => {
              const picture = row.findLast((entry) => entry.step === step);
              return picture === undefined ? null : store.get(picture.path);
            }),
          ),
        };
      }),
    ),
  };
}
