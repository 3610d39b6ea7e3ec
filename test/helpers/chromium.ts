/** A real browser for reports, where the machine has one. */

import { existsSync } from "node:fs";

const USUAL_PLACES = [
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
  "/usr/bin/google-chrome-stable",
  "/snap/bin/chromium",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  "C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe",
  "C:\\Program Files (x86)\\Microsoft\\Edge\\Application\\msedge.exe",
];

/** `CHROME_PATH`, or the first browser in the usual places; null where there is none. */
export const CHROMIUM_PATH: string | null =
  process.env.CHROME_PATH ?? USUAL_PLACES.find((path) => existsSync(path)) ?? null;

/** Stands in the name of tests that are left out. */
export const CHROMIUM_NOTE =
  CHROMIUM_PATH === null ? " (left out: no Chromium here; install one or set CHROME_PATH)" : "";
