/** Concurrent work whose results are wanted one after the other. */

/**
 * Starts work for the items in their order, at most `ahead` of them at a time, and yields the results in that order.
 *
 * Where the consumer stops early, what has been started is left to end by itself.
 */
export async function* inOrder<Item, Result>(
  items: readonly Item[],
  ahead: number,
  start: (item: Item) => Promise<Result>,
): AsyncGenerator<Result, void, void> {
  const started: Promise<Result>[] = [];
  let next = 0;
  while (next < items.length || started.length > 0) {
    while (next < items.length && started.length < ahead) {
      const work = start(items[next++]!);
      work.catch(() => undefined); // Reported when it is its turn, unless the consumer has stopped by then.
      started.push(work);
    }
    yield await started.shift()!;
  }
}
