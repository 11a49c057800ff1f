// The files of this tab: what is sent, what is asked after, and what became of each.

import * as service from "./service.js";
import { bytes, plain, say } from "./words.js";

const SENT_AT_ONCE = 2;
const ASKED_AT_ONCE = 8; // of the files that wait or run; the others have their turn later
const PAUSE = 500; // milliseconds between two rounds of questions
const SMALL = 1_000_000; // bytes, which are sent before anything tells how many are
const STORED = "qad-jax-jobs"; // of this tab alone, so that loading it anew loses nothing

const ACTIVE = new Set(["queued", "running"]);
let listener;
let mostBytes = Infinity;
let resumeAt = 0;
let locked = true; // until the limits are known, and a token is given where one is needed
let clock = 0;
let opening = false;
// Jobs from before this tab was loaded anew that have not been asked after yet.
const earlier = stored();

/** The files, in the order in which they were given. */
export const items = [];

/**
 * Begins.
 *
 * @param {object} heard functions `changed(item)`, `ended(item)`, `lost(problem)`, `locked(problem)`
 */
export function start(heard) {
  listener = heard;
  setTimeout(round, PAUSE);
}

/** Takes the limits of the service, and files of this tab from before it was loaded anew. */
export async function open(limits) {
  mostBytes = limits.most_bytes;
  locked = false;
  for (const item of items) check(item);
  pump();
  if (opening) return; // an earlier call does it
  opening = true;
  while (earlier.length && !locked) {
    let job = null;
    try {
      job = await service.job(earlier[0]);
    } catch (problem) {
      if (problem.status !== 404) failed(problem);
      if (problem.status === 401) continue; // a newer token may be there, or the loop ends
      if (problem.status !== 404) break;
    }
    earlier.shift(); // where there is no job, it was deleted, or its time is over
    if (!job) continue;
    const item = { name: plain(job.name), bytes: job.bytes, state: "queued", sent: 1, asked: 0, job };
    items.push(item);
    listener.changed(item);
    await take(item, job).catch(failed); // `round` asks again
  }
  opening = false;
  remember();
}

/** Takes files that were chosen, dropped or pasted. */
export function add(given, folders = []) {
  for (const file of given) {
    const item = { file, name: plain(file.name), bytes: file.size, state: "waiting", sent: 0, asked: 0 };
    items.push(item);
    listener.changed(item);
    check(item);
  }
  for (const name of folders) {
    const item = { name: plain(name), bytes: 0, state: "waiting", sent: 0, asked: 0 };
    items.push(item);
    refuse(item, say("folder"));
  }
  pump();
}

/** Deletes a file here and at the service. Returns whether this call has done it. */
export async function remove(item) {
  if (item.leaving) return false;
  item.leaving = true;
  // When all of it is sent, the service has it, and only its answer tells what to delete there.
  if (item.sent < 1 && item.bytes > SMALL) item.cancel?.abort();
  await item.sending;
  try {
    if (item.job) await service.remove(item.job.id);
  } catch (problem) {
    if (problem.status !== 404) {
      item.leaving = false;
      failed(problem);
      return false;
    }
  }
  items.splice(items.indexOf(item), 1);
  remember();
  return true;
}

function stored() {
  try {
    return JSON.parse(sessionStorage.getItem(STORED) ?? "[]");
  } catch {
    return []; // the browser keeps nothing of this site: a tab that is loaded anew has no files
  }
}

function remember() {
  const ids = items.filter((item) => item.job).map((item) => item.job.id);
  try {
    sessionStorage.setItem(STORED, JSON.stringify([...earlier, ...ids]));
  } catch {
    // As above.
  }
}

/** Refuses a file that is too large, before it is sent. */
function check(item) {
  if (item.state !== "waiting" || item.bytes <= mostBytes) return;
  refuse(item, say("too_large", { bytes: bytes(item.bytes), most: bytes(mostBytes) }));
}

function refuse(item, message) {
  Object.assign(item, { state: "refused", message, file: null });
  listener.changed(item);
  listener.ended(item);
}

/** Tells of what has to do with no file. Returns whether the next request can succeed. */
function failed(problem) {
  if (problem.status === 401) {
    locked = !service.hasToken();
    if (locked) listener.locked(problem);
  } else listener.lost(problem);
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
  const answer = service.send(item.file, onSent, item.cancel.signal);
  item.sending = answer.catch(() => {});
  try {
    const job = await answer;
    Object.assign(item, { job, file: null, state: "queued" });
    remember();
    listener.changed(item);
  } catch (problem) {
    if (item.leaving) return;
    if (problem.status === 429 || problem.status === 401 || problem.status === 503) {
      // Nothing is wrong with the file. It is sent again.
      Object.assign(item, { state: "waiting", sent: 0 });
      if (problem.status === 401) failed(problem);
      else {
        item.message = say("sent_again", { reason: problem.message });
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
    item.verdict = service.parsed(item.text);
  }
  if (job.state === "failed") item.message = job.reason;
  if (item.leaving) return;
  item.state = job.state;
  listener.changed(item);
  if (!ACTIVE.has(job.state)) listener.ended(item);
}

async function round() {
  pump(); // the pause that the service has asked for may be over
  const active = items.filter((item) => ACTIVE.has(item.state) && !item.leaving);
  active.sort((a, b) => a.asked - b.asked);
  for (const item of locked ? [] : active.slice(0, ASKED_AT_ONCE)) {
    item.asked = ++clock;
    try {
      await take(item, await service.job(item.job.id));
    } catch (problem) {
      if (item.leaving) continue;
      if (problem.status === 404) {
        Object.assign(item, { job: null, message: problem.message, state: "failed" });
        listener.changed(item);
        listener.ended(item);
      } else if (!failed(problem)) break;
    }
  }
  setTimeout(round, PAUSE);
}
