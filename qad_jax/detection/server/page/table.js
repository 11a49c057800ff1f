// The table of the files: a row each, sorted by the column whose head was pressed.

import { duration, number, say } from "./words.js";

const ANSWERS = ["real", "fake", "inconclusive", "no_face", "error"];
const rows = new Map();
const head = document.querySelector("#files thead tr");
const body = document.querySelector("#files tbody");
let sorting = null;

const told = (item) => ["real", "fake"].includes(item.verdict?.verdict);
const COLUMNS = [
  { key: "column_file", of: (item) => item.name },
  { key: "column_answer", of: (item) => (item.verdict ? ANSWERS.indexOf(item.verdict.verdict) : null) },
  { key: "column_probability", of: (item) => (told(item) ? item.verdict.probability : null) },
  { key: "column_quality", of: (item) => item.verdict?.quality ?? null },
  { key: "column_faces", of: (item) => item.verdict?.faces.length ?? null },
];

/** Makes an element of this text. */
export function make(tag, text = "", attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** Makes the head; each column but the last can be sorted by. */
export function start() {
  for (const column of COLUMNS) {
    const cell = make("th", "", { scope: "col", "aria-sort": "none" });
    const button = make("button", say(column.key), { type: "button" });
    button.addEventListener("click", () => {
      const falls = cell.getAttribute("aria-sort") === "ascending";
      for (const other of head.querySelectorAll("[aria-sort]")) other.setAttribute("aria-sort", "none");
      cell.setAttribute("aria-sort", falls ? "descending" : "ascending");
      sorting = { of: column.of, sign: falls ? -1 : 1 };
      sort();
    });
    cell.append(button);
    head.append(cell);
  }
  head.append(make("th", say("column_action"), { scope: "col" }));
}

/** Puts the rows in order. What has no value comes last, whatever the direction. */
export function sort() {
  if (!sorting) return;
  const focused = document.activeElement;
  const value = (item) => sorting.of(item);
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
  const order = [...rows.keys()].sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return sorting.sign * compare(x, y);
  });
  if (order.every((item, i) => rows.get(item).row === body.children[i])) return;
  body.append(...order.map((item) => rows.get(item).row));
  if (body.contains(focused)) focused.focus({ preventScroll: true }); // what moves loses it
}

/** Shows what is known of a file; `heard` has the functions `show(item)` and `remove(item)`. */
export function update(item, heard) {
  let entry = rows.get(item);
  if (!entry) {
    entry = { row: make("tr"), cells: [...COLUMNS, null].map(() => make("td")) };
    entry.cells[0] = make("th", "", { scope: "row" });
    entry.row.append(...entry.cells);
    rows.set(item, entry);
    body.append(entry.row);
    entry.cells[0].append(make("bdi", item.name));
    const label = say("delete_file", { file: item.name });
    const button = make("button", say("delete"), { type: "button", "aria-label": label });
    button.addEventListener("click", () => heard.remove(item));
    entry.cells[5].append(button);
    entry.line = make("span");
    entry.bar = make("progress", "", { max: 1, "aria-label": item.name });
    entry.why = make("span", "", { class: "why" });
    entry.cells[1].append(entry.line);
  }
  if (item.verdict && !entry.name) {
    entry.name = make("button", "", { type: "button", class: "name" });
    entry.name.append(make("bdi", item.name));
    entry.name.addEventListener("click", () => heard.show(item));
    entry.cells[0].replaceChildren(entry.name);
  }
  entry.line.textContent = state(item);
  const share = progress(item);
  if (share === undefined) entry.bar.remove();
  else {
    if (share === null) entry.bar.removeAttribute("value");
    else entry.bar.value = share;
    if (!entry.bar.isConnected) entry.line.after(entry.bar);
  }
  entry.why.textContent = item.verdict ? "" : (item.message ?? "");
  if (entry.why.textContent) entry.cells[1].append(entry.why);
  else entry.why.remove();
  entry.cells[2].textContent = told(item)
    ? number(item.verdict.probability, { minimumFractionDigits: 2, maximumFractionDigits: 2 })
    : "";
  entry.cells[3].textContent = item.verdict?.quality ?? "";
  entry.cells[4].textContent = item.verdict ? number(item.verdict.faces.length) : "";
}

/** Marks the row of the file that is shown below; null: none is. */
export function mark(item) {
  for (const [other, entry] of rows) {
    if (other === item) entry.row.setAttribute("aria-current", "true");
    else entry.row.removeAttribute("aria-current");
  }
}

/** Removes a row, and moves the focus from it to the nearest one. Returns whether any is left. */
export function remove(item) {
  const { row } = rows.get(item);
  const next = row.nextElementSibling ?? row.previousElementSibling;
  const focused = row.contains(document.activeElement) || document.activeElement === document.body;
  row.remove();
  rows.delete(item);
  if (focused && next) next.querySelector("td:last-child button").focus();
  return rows.size > 0;
}

/** What is said of a file in the column of answers. */
export function state(item) {
  if (item.verdict) return say(`answer_${item.verdict.verdict}`);
  if (item.state === "sending") return say("state_sending", { percent: number(item.sent, { style: "percent" }) });
  if (item.state === "queued") return say("state_queued", { count: item.job?.position ?? 0 });
  const steps = item.state === "running" && item.job.progress;
  if (!steps) return say(`state_${item.state}`);
  const { done, total, stage: name, remaining_seconds: left } = steps;
  const stage = say(`stage_${name}`);
  const step = total ? say("step", { stage, done: number(done), total: number(total) }) : stage;
  return left === null ? step : `${step}, ${say("remaining", { time: duration(left) })}`;
}

/** The share of what is done; null where it is not known, undefined where nothing is being done. */
function progress(item) {
  if (item.state === "sending") return item.sent;
  if (item.state !== "running" || item.verdict) return undefined;
  const steps = item.job.progress;
  return steps?.total ? steps.done / steps.total : null;
}
