// The page of the service: files come in here, and all other modules are joined.

import * as detail from "./detail.js";
import { csv, save } from "./downloads.js";
import * as files from "./files.js";
import * as service from "./service.js";
import * as table from "./table.js";
import { bytes, duration, load, say } from "./words.js";

const RETRY = 3000; // milliseconds
const TOLD = 20; // sentences for screen readers that are kept
const one = (id) => document.getElementById(id);

const actions = { show, remove };
let timer = 0;
let lock = ""; // what is said about the token, while one is missing

function changed(item) {
  one("files").hidden = false;
  table.update(item, actions);
}

function ended(item) {
  const said = item.message && !item.verdict ? item.message : table.state(item);
  tell(say("said_answer", { file: item.name, answer: said }));
  table.sort();
  downloads();
  if (item.verdict && !detail.shown) show(item, false);
}

function trouble(text) {
  if (one("trouble").textContent !== text) one("trouble").textContent = text;
}

/** Tells those who do not see the page. Several sentences at a time are all read out. */
function tell(text) {
  one("said").append(table.make("p", text));
  if (one("said").children.length > TOLD) one("said").firstChild.remove();
}

function locked(problem) {
  lock = problem.shown ? say("token_wrong") : lock || say("token_needed");
  trouble(lock);
  one("access").hidden = false;
}

function useToken(given) {
  lock = service.useToken(given) ? "" : say("token_wrong");
  return connect();
}

function lost(problem) {
  trouble(problem.status ? problem.message : say("no_service"));
  clearTimeout(timer);
  timer = setTimeout(connect, RETRY);
}

async function show(item, moves = true) {
  table.mark(item);
  const done = detail.show(item, remove);
  if (moves) detail.focus();
  await done;
}

async function remove(item) {
  if (!(await files.remove(item))) return;
  const inside = detail.shown === item && one("detail").contains(document.activeElement);
  if (detail.shown === item) {
    detail.hide();
    table.mark(null);
  }
  const left = table.remove(item);
  one("files").hidden = !left;
  if (!left || inside) one("choose").focus();
  tell(say("said_deleted", { file: item.name }));
  downloads();
}

/** Buttons for all files at once, where there are several. */
function downloads() {
  const judged = () => files.items.filter((item) => item.verdict);
  const button = (key, act) => {
    const made = table.make("button", say(key), { type: "button" });
    made.addEventListener("click", act);
    return made;
  };
  const lines = () => judged().map((item) => `${item.text.trim()}\n`).join("");
  const rows = () => csv(judged().map((item) => item.verdict));
  const made = [];
  if (judged().length > 1)
    made.push(
      button("download_all_json", () => save("verdicts.jsonl", lines(), "application/x-ndjson")),
      button("download_all_csv", () => save("verdicts.csv", rows(), "text/csv")),
    );
  if (files.items.length > 1)
    made.push(
      button("delete_all", async () => {
        for (const item of [...files.items]) await remove(item);
      }),
    );
  if (one("all").children.length !== made.length || !one("all").contains(document.activeElement))
    one("all").replaceChildren(...made);
}

function add(given, folders) {
  const count = given.length + folders.length;
  if (!count) return;
  tell(say("said_added", { count }));
  files.add(given, folders);
  downloads();
}

function listen() {
  one("choose").addEventListener("click", () => one("picker").click());
  one("picker").addEventListener("change", () => {
    add([...one("picker").files], []);
    one("picker").value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragged");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dragged");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragged");
    // In the order of `files`, which has no texts that are dragged along.
    const given = [...event.dataTransfer.items].filter((item) => item.kind === "file");
    const entries = given.map((item) => item.webkitGetAsEntry?.());
    const folders = entries.filter((entry) => entry?.isDirectory).map((entry) => entry.name);
    const dropped = [...event.dataTransfer.files].filter((_, i) => !entries[i]?.isDirectory);
    add(dropped, folders);
  });
  document.addEventListener("paste", (event) => {
    const pasted = [...event.clipboardData.files];
    if (pasted.length) event.preventDefault();
    add(pasted, []);
  });
  one("access").addEventListener("submit", (event) => {
    event.preventDefault();
    useToken(one("token").value);
    one("token").value = "";
    one("choose").focus();
  });
  window.addEventListener("hashchange", () => {
    const given = service.tokenOfAddress();
    if (given) useToken(given);
  });
}

async function connect() {
  let limits;
  try {
    limits = await service.limits();
  } catch (problem) {
    lost(problem);
    return;
  }
  const lines = [
    say("limit_bytes", { bytes: bytes(limits.most_bytes) }),
    say("limit_kept", { time: duration(limits.kept_seconds) }),
    limits.stored ? say("limit_stored") : "",
  ];
  one("limits").textContent = lines.join(" ").trim();
  const { name, version, sha256 } = limits.model ?? {};
  if (sha256) {
    const short = sha256.slice(0, 12);
    one("about").textContent = say("about", { name, version, sha256: short, software: limits.version });
  } else {
    // Files can be sent while the detector is being loaded.
    clearTimeout(timer);
    timer = setTimeout(connect, RETRY);
  }
  if (limits.token_needed && !service.hasToken()) {
    locked(new service.Problem(401, ""));
    return;
  }
  one("access").hidden = true;
  trouble("");
  await files.open(limits);
}

const given = service.tokenOfAddress(); // before anything is waited for
await load();
one("meaning").replaceChildren(...say("meaning").map((text) => table.make("li", text)));
table.start();
files.start({ changed, ended, lost, locked });
listen();
one("arriving").remove();
document.querySelector("main").hidden = false;
await useToken(given);
