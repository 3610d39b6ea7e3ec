/** Places for labels where no two lie on top of each other. */

/**
 * Moves positions apart until neighbours have `gap` between them; the order stays, and none moves further than needed.
 *
 * @param positions - where the labels would like to be
 * @param low, high - none leaves this range, unless there is not enough room for all
 */
export function spread(positions: readonly number[], gap: number, low: number, high: number): number[] {
  const order = positions.map((_, index) => index).sort((a, b) => positions[a]! - positions[b]!);
  // Neighbours that touch are a group, which is centred on the mean of where its members would like to be.
  interface Group {
    center: number;
    readonly members: number[];
  }
  const reach = ({ members }: Group) => ((members.length - 1) * gap) / 2;
  const settle = (group: Group) => {
    const wanted = group.members.reduce((sum, index) => sum + positions[index]!, 0) / group.members.length;
    group.center = Math.max(low + reach(group), Math.min(high - reach(group), wanted));
  };
  const groups: Group[] = [];
  for (const index of order) {
    const group: Group = { center: 0, members: [index] };
    settle(group);
    groups.push(group);
    for (;;) {
      const [before, last] = [groups.at(-2), groups.at(-1)!];
      if (before === undefined || last.center - reach(last) - (before.center + reach(before)) >= gap) break;
      groups.pop();
      before.members.push(...last.members);
      settle(before);
    }
  }
  const placed: number[] = new Array(positions.length);
  for (const group of groups) {
    for (const [place, index] of group.members.entries()) {
      placed[index] = group.center - reach(group) + place * gap;
    }
  }
  return placed;
}

export interface LabelBox {
  /** In pixels: the middle of the text. */
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/**
 * Gives each label the first of its places that is free. Those that come first choose first; a label without a free place is
 * left out.
 *
 * @param placesOf - in the order of preference
 * @param taken - what no label may cover
 */
export function placeLabels<Label, Place extends LabelBox>(
  labels: readonly Label[],
  placesOf: (label: Label) => readonly Place[],
  taken: readonly LabelBox[],
): { readonly label: Label; readonly place: Place }[] {
  const boxes = [...taken];
  return labels.flatMap((label) => {
    const place = placesOf(label).find((candidate) => !boxes.some((box) => touches(candidate, box)));
    if (place === undefined) return [];
    boxes.push(place);
    return [{ label, place }];
  });
}

function touches(a: LabelBox, b: LabelBox): boolean {
  return Math.abs(a.x - b.x) < (a.width + b.width) / 2 && Math.abs(a.y - b.y) < (a.height + b.height) / 2;
}
