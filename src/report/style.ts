/** The one style sheet of a report. Charts take every colour from its variables. */

export const PAGE_STYLE = `
:root {
  color-scheme: light dark;
  --paper: #ffffff;
  --ink: #1c1e21;
  --muted: #595f66;
  --line: #d5d9de;
  --panel: #f4f6f8;
  --accent: #0b63b0;
  --accent-soft: #e3effa;
  --series-1: #0b63b0;
  --series-2: #c04a06;
  --series-3: #0c7a5c;
  --series-4: #7a3fc4;
  --series-5: #8f6400;
  --series-6: #b8256e;
  --step-1: #26807a;
  --step-2: #23788f;
  --step-3: #286d9b;
  --step-4: #32629a;
  --step-5: #404b8e;
  --step-6: #47357e;
  --step-7: #46226a;
  --step-8: #3a1252;
  --heat-1: #f0f4f8;
  --heat-2: #d2e3f1;
  --heat-3: #a8cbe5;
  --heat-4: #75abd4;
  --heat-5: #4486bd;
  --heat-6: #1f609b;
  --heat-7: #0a3a6b;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #15181c;
    --ink: #e9e7e3;
    --muted: #a9aeb5;
    --line: #3a4048;
    --panel: #1e2227;
    --accent: #79b8f5;
    --accent-soft: #1d3146;
    --series-1: #79b8f5;
    --series-2: #ff9f68;
    --series-3: #55cfa9;
    --series-4: #c3a2fb;
    --series-5: #e2bd4a;
    --series-6: #ff8dbb;
    --step-1: #5d83c9;
    --step-2: #4f9cd0;
    --step-3: #45b3c8;
    --step-4: #4ac6ae;
    --step-5: #72d58b;
    --step-6: #a6df6b;
    --step-7: #d8e35f;
    --step-8: #fdf0a6;
    --heat-1: #1d242b;
    --heat-2: #1f3a52;
    --heat-3: #23547a;
    --heat-4: #2d72a4;
    --heat-5: #4a98cc;
    --heat-6: #8ac2e8;
    --heat-7: #d8edff;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0 auto;
  max-width: 50rem;
  padding: 1.5rem 1rem 3rem;
  background: var(--paper);
  color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: break-word;
}
h1, h2, h3 { line-height: 1.2; text-wrap: balance; }
h1 { font-size: clamp(1.75rem, 1.2rem + 2.6vw, 2.6rem); margin: 0 0 0.75rem; letter-spacing: -0.015em; }
h2 { font-size: 1.45rem; margin: 3.25rem 0 0.75rem; padding-top: 0.9rem; border-top: 2px solid var(--ink); }
h3 { font-size: 1.12rem; margin: 0 0 0.3rem; }
p { margin: 0 0 0.75rem; }
a { color: var(--accent); }
.kicker { color: var(--muted); font-size: 0.95rem; margin: 0 0 0.5rem; overflow-wrap: anywhere; }
.lede p { font-size: 1.13rem; max-width: 42rem; }
.lede .warning, .warning { font-size: 1rem; border-left: 4px solid var(--series-2); padding: 0.1rem 0 0.1rem 0.75rem; }
.note, figcaption p { color: var(--muted); font-size: 0.95rem; max-width: 42rem; }
.note { margin-top: 0.25rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: 0.75rem; margin: 1.25rem 0 0; }
.tiles div { background: var(--panel); border-radius: 6px; padding: 0.7rem 0.85rem; }
.tiles dt { color: var(--muted); font-size: 0.88rem; }
.tiles dd { margin: 0; font-size: 1.45rem; font-weight: 650; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tiles dd small { display: block; font-size: 0.88rem; font-weight: 400; color: var(--muted); line-height: 1.35; }
figure { margin: 1.75rem 0 2.25rem; }
figure svg { display: block; width: 100%; height: auto; overflow: visible; fill: currentColor; font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
figure svg text { white-space: pre; }
figure .narrow { display: none; max-width: 30rem; }
.legend { list-style: none; margin: 0 0 0.5rem; padding: 0; font-size: 0.92rem; display: flex; flex-wrap: wrap; gap: 0.1rem 1.5rem; overflow-wrap: anywhere; }
.legend li::before { content: ""; display: inline-block; width: 1.1rem; height: 0.28rem; margin-right: 0.5rem; vertical-align: middle; background: currentColor; }
.legend li { font-weight: 650; }
.series-1 { color: var(--series-1); }
.series-2 { color: var(--series-2); }
.series-3 { color: var(--series-3); }
.series-4 { color: var(--series-4); }
.series-5 { color: var(--series-5); }
.series-6 { color: var(--series-6); }
.series-7 { color: var(--muted); }
details { margin: 0.5rem 0 0; }
summary { cursor: pointer; color: var(--accent); font-size: 0.95rem; width: fit-content; padding: 0.25rem 0; }
summary:focus-visible, .scroll:focus-visible, button:focus-visible, input:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.scroll { overflow-x: auto; margin: 0.75rem 0; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--muted); padding: 0 0 0.4rem; font-size: 0.92rem; }
th, td { text-align: left; padding: 0.35rem 0.7rem 0.35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; white-space: nowrap; font-weight: 400; }
th:first-child { padding-left: 0.4rem; }
/* Of a table that is wider than its window, the caption stays in sight. */
caption span { position: sticky; left: 0; display: inline-block; max-width: min(42rem, calc(100vw - 2rem)); }
th[scope="row"] { white-space: normal; min-width: 6rem; }
.whole { white-space: nowrap; }
.path { display: inline-block; min-width: 10rem; white-space: normal; overflow-wrap: anywhere; }
thead th { color: var(--muted); font-weight: 600; white-space: normal; vertical-align: bottom; border-bottom: 1px solid var(--ink); }
.number { text-align: right; }
td small { display: block; color: var(--muted); font-weight: 400; font-size: 0.88em; }
tr.chosen th, tr.chosen td { background: var(--accent-soft); font-weight: 650; }
.facts { margin: 0.75rem 0 1.5rem; }
.facts div { display: grid; grid-template-columns: minmax(9rem, 14rem) 1fr; gap: 0 1rem; padding: 0.32rem 0; border-bottom: 1px solid var(--line); }
.facts dt { color: var(--muted); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.pictures td, .pictures thead th { padding: 0 0.35rem 0.35rem 0; border: 0; text-align: center; }
.pictures thead th { padding-bottom: 0.3rem; overflow-wrap: anywhere; }
.pictures th[scope="rowgroup"] { text-align: left; white-space: normal; border: 0; color: var(--ink); padding: 0.7rem 0 0.35rem; }
.pictures th[scope="rowgroup"] small { color: var(--muted); font-size: 0.9rem; }
.pictures .chosen { color: var(--accent); font-weight: 650; }
.pictures img { display: block; width: 8.4rem; min-width: 5.5rem; height: auto; border-radius: 3px; background: var(--panel); }
.pictures button { display: block; padding: 0; border: 0; background: none; cursor: zoom-in; border-radius: 3px; }
.control { font: inherit; font-size: 0.95rem; color: var(--accent); background: var(--paper); border: 1px solid var(--accent); border-radius: 6px; padding: 0.4rem 0.9rem; cursor: pointer; }
.control:hover { background: var(--accent-soft); }
dialog { border: 0; border-radius: 10px; padding: 1rem; color: var(--ink); background: var(--paper); width: min(44rem, calc(100vw - 1.5rem)); max-height: calc(100dvh - 1.5rem); overflow: auto; }
dialog::backdrop { background: rgb(0 0 0 / 0.65); }
dialog h2 { border: 0; margin: 0 0 0.4rem; padding: 0; font-size: 1.1rem; }
dialog img { display: block; margin: 0 auto; width: min(100%, calc(100dvh - 17rem)); min-width: 8rem; height: auto; background: var(--panel); }
dialog img.pixels { image-rendering: pixelated; }
dialog p { margin: 0.4rem 0; }
dialog output { font-weight: 650; }
dialog input[type="range"] { width: 100%; accent-color: var(--accent); }
dialog .buttons { display: flex; flex-wrap: wrap; gap: 0.5rem; justify-content: space-between; }
.live { display: flex; flex-wrap: wrap; gap: 0.5rem 1rem; align-items: center; color: var(--muted); font-size: 0.95rem; }
footer { margin-top: 3.5rem; padding-top: 0.75rem; border-top: 1px solid var(--line); color: var(--muted); font-size: 0.9rem; }
@media screen and (max-width: 40rem) {
  figure .wide { display: none; }
  figure .narrow { display: block; }
  .facts div { grid-template-columns: 1fr; }
  .pictures img { width: 6.2rem; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  h2 { break-after: avoid; }
  figure, table, .tiles, .facts div { break-inside: avoid; }
  .scroll { overflow: visible; }
  table { font-size: 9pt; }
  th, td { padding-right: 0.6rem; }
  summary, .control, .live { display: none; }
  .pictures img { width: 2.6cm; min-width: 0; }
  tr.chosen th, tr.chosen td { background: none; text-decoration: underline; }
  svg, .tiles div { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
`;
