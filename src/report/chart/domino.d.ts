/** The package's own declarations name another module. */
declare module "@mixmark-io/domino" {
  /** What Observable Plot needs of a document, and this program of the elements it makes. */
  export function createDocument(html?: string): Document;

  interface Document {
    createElementNS(namespace: string, name: string): Element;
  }

  interface Element {
    readonly outerHTML: string;
    readonly firstChild: Element | null;
    textContent: string;
    querySelectorAll(selector: string): ArrayLike<Element>;
    setAttribute(name: string, value: string): void;
    removeAttribute(name: string): void;
    insertBefore(element: Element, before: Element | null): Element;
    remove(): void;
  }
}
