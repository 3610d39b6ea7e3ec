/**
 * The one script of a report. Without it nothing is missing but comfort: it enlarges pictures and walks through their
 * ranks, opens the tables for a printer, and fetches the newer version of a page whose run goes on.
 */
export const PAGE_SCRIPT = `
"use strict";

const make = (name, properties, ...children) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
};

// Pictures: a click enlarges one, the slider walks along its row.
for (const [number, grid] of document.querySelectorAll(".pictures").entries()) {
  const rows = [...grid.querySelectorAll("tr[data-row]")].map((row) => ({
    name: row.dataset.row,
    // Null where there is no picture.
    pictures: [...row.cells].map((cell) => cell.querySelector("img")),
  }));
  if (rows.length === 0) continue;
  const columns = [...grid.tHead.rows[0].cells].map((cell) => cell.textContent);
  let row = 0;
  let column = 0;

  const heading = make("h2", { id: "viewer-" + number });
  const picture = make("img", { alt: "" });
  const missing = make("p", { hidden: true }, "There is no picture of this.");
  const position = make("output", {});
  const id = "walk-" + number;
  const slider = make("input", { id, type: "range", min: 0, max: columns.length - 1, step: 1 });
  const button = (text, onclick) => make("button", { type: "button", className: "control", onclick }, text);
  const dialog = make(
    "dialog",
    {},
    heading,
    picture,
    missing,
    make("p", {}, make("label", { htmlFor: id }, grid.dataset.axis), ": ", position, slider),
    make(
      "p",
      { className: "buttons" },
      button("Previous prompt", () => show(row - 1, column)),
      button("Next prompt", () => show(row + 1, column)),
      button("Close", () => dialog.close()),
    ),
  );
  dialog.setAttribute("aria-labelledby", heading.id);

  const show = (toRow, toColumn) => {
    row = (toRow + rows.length) % rows.length;
    column = toColumn;
    const source = rows[row].pictures[column];
    heading.textContent = rows[row].name;
    picture.hidden = source === null;
    missing.hidden = source !== null;
    position.textContent = columns[column];
    slider.value = column;
    slider.setAttribute("aria-valuetext", columns[column]);
    if (source === null) return;
    picture.src = source.src;
    picture.alt = source.alt;
    picture.width = source.naturalWidth;
    picture.height = source.naturalHeight;
    picture.className = source.naturalWidth < 256 ? "pixels" : "";
  };
  const open = (toRow, toColumn) => {
    show(toRow, toColumn);
    dialog.showModal();
    slider.focus();
  };
  slider.addEventListener("input", () => show(row, Number(slider.value)));
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });

  for (const [r, { pictures }] of rows.entries()) {
    for (const [c, image] of pictures.entries()) {
      if (image === null) continue;
      const enlarge = make("button", { type: "button", onclick: () => open(r, c) });
      image.replaceWith(enlarge);
      enlarge.append(image);
    }
  }
  grid.before(make("p", {}, button(grid.dataset.walk, () => open(0, 0))));
  document.body.append(dialog);
}

// On paper nothing can be opened.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  for (const details of opened) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of opened) details.open = false;
});

// A run that goes on: its page is written again and again.
const seconds = Number(document.body.dataset.refreshSeconds);
if (seconds > 0) {
  const HELD = "dylora-report-held";
  const remember = (held) => {
    // Some browsers give files no memory.
    try {
      if (held === null) return sessionStorage.getItem(HELD) === "yes";
      sessionStorage.setItem(HELD, held ? "yes" : "no");
    } catch {}
    return held === true;
  };
  let held = remember(null);
  const state = make("span", {});
  const hold = make("button", { type: "button", className: "control" });
  const say = () => {
    state.textContent = held ? "Updates are held." : "Updates itself every " + seconds + " seconds.";
    hold.textContent = held ? "Go on" : "Hold";
  };
  hold.addEventListener("click", () => {
    held = !held;
    remember(held);
    say();
  });
  say();
  document.querySelector("header").append(make("p", { className: "live" }, state, hold));
  setInterval(() => {
    if (!held && !document.hidden && !document.querySelector("dialog[open]")) location.reload();
  }, seconds * 1000);
}
`;
