/** Work that several callers want at the same time and that must be done once. */
export class SharedWork<T> {
  readonly #underWay = new Map<string, Promise<T>>();

  /** The result of `work`, or of the call under the same key that is under way. */
  run(key: string, work: () => Promise<T>): Promise<T> {
    const known = this.#underWay.get(key);
    if (known !== undefined) return known;
    const result = work().finally(() => this.#underWay.delete(key));
    this.#underWay.set(key, result);
    return result;
  }
}
