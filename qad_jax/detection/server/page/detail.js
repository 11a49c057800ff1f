// One file: the answer in words, and the page that the service has drawn of it.

import { csv, save } from "./downloads.js";
import * as service from "./service.js";
import { make } from "./table.js";
import { say } from "./words.js";

const section = document.getElementById("detail");
const frame = document.getElementById("page");
const title = document.getElementById("detail-title");
const answer = document.getElementById("detail-answer");
const trouble = document.getElementById("detail-trouble");
const actions = document.getElementById("detail-actions");
let observer = null;

/** The file that is shown; null: none is. */
export let shown = null;

/** Shows a file whose verdict is there. */
export async function show(item, remove) {
  shown = item;
  section.hidden = false;
  title.replaceChildren(make("bdi", item.name));
  answer.textContent = say(`words_${item.verdict.verdict}`);
  trouble.textContent = "";
  frame.hidden = true;
  let html = "";
  const button = (key, act) => {
    const made = make("button", say(key), { type: "button" });
    made.addEventListener("click", act);
    return made;
  };
  const stem = item.name.replace(/[^\p{L}\p{N}._-]+/gu, "_") || "file";
  const keep = button("download_page", () => save(`${stem}.html`, html, "text/html"));
  keep.disabled = true; // until the page is there
  actions.replaceChildren(
    keep,
    button("download_json", () => save(`${stem}.json`, item.text, "application/json")),
    button("download_csv", () => save(`${stem}.csv`, csv([item.verdict]), "text/csv")),
    button("delete", () => remove(item)),
  );
  try {
    html = await service.page(item.job.id);
  } catch (problem) {
    if (shown === item) trouble.textContent = say("page_missing", { reason: problem.message || say("no_answer") });
    return;
  }
  if (shown !== item) return;
  keep.disabled = false;
  // By its text and not by its address: an address could not carry the token.
  frame.title = say("frame_title", { file: item.name });
  frame.srcdoc = html;
  frame.hidden = false;
}

/** Shows no file. */
export function hide() {
  shown = null;
  section.hidden = true;
  frame.removeAttribute("srcdoc");
}

/** Moves the focus to the file that is shown. */
export function focus() {
  title.focus();
  title.scrollIntoView({ block: "start" });
}

// The frame runs no script. It is as high as what it shows, so that there is one bar to scroll.
frame.addEventListener("load", () => {
  const page = frame.contentDocument;
  if (!page?.body) return;
  for (const said of page.querySelectorAll("h1, .answer h2")) said.remove(); // it is above
  page.body.style.padding = "0 0 1rem";
  page.body.style.maxWidth = "none";
  const fit = () => {
    frame.style.height = `${Math.ceil(page.documentElement.getBoundingClientRect().height) + 2}px`;
  };
  observer?.disconnect();
  observer = new ResizeObserver(fit);
  observer.observe(page.documentElement);
  fit();
});
