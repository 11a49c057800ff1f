// The files of this tab: what is sent, what is asked after, and what became of each.

import * as service from "./service.js";
import { bytes, plain, say } from "./words.js";

const SENT_AT_ONCE = 2;
const ASKED_AT_ONCE = 8; // of the files that wait or run; the others have their turn later
const PAUSE = 500; // milliseconds between two rounds of questions
const STORED = "qad-jax-jobs"; // of this tab alone, so that loading it anew loses nothing

const ACTIVE = new Set(["queued", "running"]);
let listener;
let mostBytes = Infinity;
let resumeAt = 0;
let locked = true; // until the limits are known, and a token is given where one is needed
let clock = 0;

/** The files, in the order in which they were given. */
export const items = [];

/**
 * Begins.
 *
 * @param {object} heard functions `changed(item)`, `ended(item)`, `trouble(text)`, `locked()`
 */
export function start(heard) {
  listener = heard;
  setTimeout(round, PAUSE);
}

/** Takes the limits of the service, and files of this tab from before it was loaded anew. */
export async function open(limits) {
  mostBytes = limits.most_bytes;
  locked = false;
  const known = new Set(items.map((item) => item.job?.id));
  let all = true;
  for (const id of JSON.parse(sessionStorage.getItem(STORED) ?? "[]")) {
    if (known.has(id)) continue;
    try {
      const job = await service.job(id);
      const item = { name: plain(job.name), bytes: job.bytes, state: "queued", sent: 1, asked: 0 };
      items.push(item);
      await take(item, job);
    } catch (problem) {
      all = failed(problem);
      if (!all) break;
    }
  }
  if (all) remember();
  pump();
}

/** Takes files that were chosen, dropped or pasted. */
export function add(given, folders = []) {
  for (const file of given) {
    const item = { file, name: plain(file.name), bytes: file.size, state: "waiting", sent: 0, asked: 0 };
    items.push(item);
    if (file.size > mostBytes)
      refuse(item, say("too_large", { bytes: bytes(file.size), most: bytes(mostBytes) }));
    else listener.changed(item);
  }
  for (const name of folders) {
    const item = { name: plain(name), bytes: 0, state: "waiting", sent: 0, asked: 0 };
    items.push(item);
    refuse(item, say("folder"));
  }
  pump();
}

/** Deletes a file here and at the service. Returns whether it is gone. */
export async function remove(item) {
  item.cancel?.abort();
  try {
    if (item.job) await service.remove(item.job.id);
  } catch (problem) {
    if (problem.status !== 404) {
      failed(problem);
      return false;
    }
  }
  items.splice(items.indexOf(item), 1);
  item.state = "deleted";
  remember();
  return true;
}

function remember() {
  const ids = items.filter((item) => item.job).map((item) => item.job.id);
  sessionStorage.setItem(STORED, JSON.stringify(ids));
}

function refuse(item, message) {
  Object.assign(item, { state: "refused", message, file: null });
  listener.changed(item);
  listener.ended(item);
}

/** Tells of what has to do with no file. Returns whether the next request can succeed. */
function failed(problem) {
  if (problem.status === 401) {
    locked = true;
    listener.locked(problem.message);
  } else if (problem.status === 0) listener.trouble(say("no_service"));
  else if (problem.status !== 404) listener.trouble(problem.message);
  return problem.status !== 401 && problem.status !== 0;
}

function pump() {
  const pause = resumeAt - Date.now();
  if (locked || pause > 0) return;
  const sending = items.filter((item) => item.state === "sending").length;
  const next = items.filter((item) => item.state === "waiting");
  for (const item of next.slice(0, Math.max(0, SENT_AT_ONCE - sending))) send(item);
}

async function send(item) {
  Object.assign(item, { state: "sending", sent: 0, message: "", cancel: new AbortController() });
  listener.changed(item);
  const onSent = (share) => {
    item.sent = share;
    listener.changed(item);
  };
  try {
    const job = await service.send(item.file, onSent, item.cancel.signal);
    Object.assign(item, { job, file: null, state: "queued" });
    remember();
    await take(item, job);
  } catch (problem) {
    if (item.state === "deleted" || problem.name === "AbortError") return;
    if (problem.status === 429 || problem.status === 401 || problem.status === 503) {
      // Nothing is wrong with the file. It is sent again.
      Object.assign(item, { state: "waiting", sent: 0 });
      if (problem.status === 401) failed(problem);
      else {
        item.message = problem.message;
        resumeAt = Date.now() + 1000 * (problem.seconds ?? 5);
      }
      listener.changed(item);
    } else refuse(item, problem.status ? problem.message : say("connection"));
  }
  pump();
}

async function take(item, job) {
  item.job = job;
  if (job.state === "done") {
    item.text = await service.verdict(job.id);
    item.verdict = JSON.parse(item.text);
  }
  if (job.state === "failed") item.message = job.reason;
  if (item.state === "deleted") return;
  item.state = job.state;
  listener.changed(item);
  if (!ACTIVE.has(job.state)) listener.ended(item);
}

async function round() {
  pump(); // the pause that the service has asked for may be over
  const active = items.filter((item) => ACTIVE.has(item.state) && item.job);
  active.sort((a, b) => a.asked - b.asked);
  for (const item of locked ? [] : active.slice(0, ASKED_AT_ONCE)) {
    item.asked = ++clock;
    try {
      await take(item, await service.job(item.job.id));
      listener.trouble("");
    } catch (problem) {
      if (problem.status === 404 && item.state !== "deleted") {
        Object.assign(item, { job: null, message: problem.message, state: "failed" });
        listener.changed(item);
        listener.ended(item);
      } else if (!failed(problem)) break;
    }
  }
  setTimeout(round, PAUSE);
}
