/** The frame of a report: one file that needs nothing else, and asks nobody for anything. */

import { createHash } from "node:crypto";
import { dyloraVersion } from "../version.js";
import { type Html, type HtmlValue, html, trusted } from "./html.js";
import { PAGE_SCRIPT } from "./script.js";
import { PAGE_STYLE } from "./style.js";

export interface Page {
  /** Of the window: the finding, then what it is about. */
  readonly title: string;
  /** The finding, in a few words. */
  readonly headline: string;
  /** What it is about: file, run. */
  readonly kicker: HtmlValue;
  /** What a reader should know who reads no further. */
  readonly lede: HtmlValue;
  readonly body: HtmlValue;
  /** ISO 8601. */
  readonly date: string;
  /** Seconds after which the page looks for a newer version of itself; null: it is finished. */
  readonly refreshSeconds: number | null;
}

/** A whole HTML document. */
export function renderPage(page: Page): string {
  const { refreshSeconds } = page;
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${contentSecurityPolicy()}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="dylora ${dyloraVersion()}">
<meta name="referrer" content="no-referrer">
${refreshSeconds === null ? null : refreshWithoutScript(refreshSeconds)}<title>${page.title}</title>
<style>${trusted(PAGE_STYLE)}</style>
</head>
<body${refreshSeconds === null ? null : html` data-refresh-seconds="${refreshSeconds}"`}>
<header>
<p class="kicker">${page.kicker}</p>
<h1>${page.headline}</h1>
<div class="lede">${page.lede}</div>
</header>
<main>
${page.body}</main>
<footer>
<p>Written by dylora ${dyloraVersion()} on <time datetime="${page.date}">${readableDate(page.date)}</time>. This page is one file: it loads nothing and sends nothing.</p>
</footer>
<script>${trusted(PAGE_SCRIPT)}</script>
</body>
</html>
`.markup;
}

/** A part of a page under a heading. */
export function section(id: string, heading: string, ...content: readonly HtmlValue[]): Html {
  return html`<section aria-labelledby="${id}">
<h2 id="${id}">${heading}</h2>
${content}</section>
`;
}

/** With scripts on, the page asks for its newer version itself, and the reader can hold it. */
function refreshWithoutScript(seconds: number): Html {
  return html`<noscript><meta http-equiv="refresh" content="${seconds}"></noscript>
`;
}

/** Nothing but this page's own style and script, and pictures that are inside it. */
function contentSecurityPolicy(): string {
  return [
    "default-src 'none'",
    "img-src data:",
    `style-src '${sourceHash(PAGE_STYLE)}'`,
    `script-src '${sourceHash(PAGE_SCRIPT)}'`,
    "base-uri 'none'",
    "form-action 'none'",
  ].join("; ");
}

function sourceHash(source: string): string {
  return `sha256-${createHash("sha256").update(source).digest("base64")}`;
}

/** `22 November 2026, 12:34 UTC` */
function readableDate(iso: string): string {
  const format = new Intl.DateTimeFormat("en-GB", {
    dateStyle: "long",
    timeStyle: "short",
    timeZone: "UTC",
  });
  return `${format.format(new Date(iso)).replace(" at ", ", ")} UTC`;
}
