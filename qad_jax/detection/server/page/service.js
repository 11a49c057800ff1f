// What the page asks of the service. No text is shown here, and no element is touched.

/** An answer that is not what was asked for; status 0: there was no answer. */
export class Problem extends Error {
  constructor(status, detail, seconds = null, shown = "") {
    super(detail);
    this.status = status;
    this.seconds = seconds; // to wait before the next try
    this.shown = shown; // the token that was shown
  }
}

const POSSIBLE = /^[\x21-\x7e]+$/; // no service has another token, and no request can carry one
let token = "";

/** Takes the token out of the address, where histories and screenshots would keep it. */
export function tokenOfAddress() {
  const given = /^#token=(.+)$/.exec(location.hash)?.[1];
  if (!given) return "";
  history.replaceState(null, "", location.pathname + location.search);
  try {
    return decodeURIComponent(given); // a browser has escaped some signs
  } catch {
    return given; // it is the token itself that has a "%"
  }
}

/** Takes a token into memory. Returns whether it is one that a service can have, or is none. */
export function useToken(given) {
  const trimmed = given.trim();
  token = POSSIBLE.test(trimmed) ? trimmed : "";
  return token === trimmed;
}

export const hasToken = () => token !== "";

function problem(status, body, retryAfter, shown) {
  // A token that was refused is not shown again. A better one may have been given meanwhile.
  if (status === 401 && shown === token) token = "";
  let detail = "";
  try {
    detail = JSON.parse(body).detail ?? "";
  } catch {
    // A proxy in between answers in words of its own.
  }
  const seconds = Number.parseFloat(retryAfter) || null;
  return new Problem(status, detail || `HTTP ${status}`, seconds, shown);
}

/** Reads JSON. Where a text is none, the service has not answered: a proxy in between has. */
export function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Problem(0, "");
  }
}

async function ask(path, method = "GET") {
  const shown = token;
  let answer;
  try {
    const headers = shown ? { Authorization: `Bearer ${shown}` } : {};
    answer = await fetch(path, { method, headers, cache: "no-store" });
    if (answer.ok) return answer.status === 204 ? "" : await answer.text();
  } catch {
    throw new Problem(0, "");
  }
  throw problem(answer.status, await answer.text(), answer.headers.get("Retry-After"), shown);
}

export const limits = async () => parsed(await ask("v1/limits"));
export const job = async (id) => parsed(await ask(`v1/jobs/${id}`));
export const verdict = (id) => ask(`v1/jobs/${id}/verdict`);
export const page = (id) => ask(`v1/jobs/${id}/page`);
export const remove = (id) => ask(`v1/jobs/${id}`, "DELETE");

/**
 * Sends a file. Only XMLHttpRequest tells how much of it is sent.
 *
 * @param {File} file
 * @param {(share: number) => void} onSent called with the share that is sent, from 0 to 1
 * @param {AbortSignal} signal
 * @returns {Promise<object>} the job
 */
export function send(file, onSent, signal) {
  const answer = new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const shown = token;
    const form = new FormData();
    form.append("file", file, file.name || "file");
    request.open("POST", "v1/jobs");
    if (shown) request.setRequestHeader("Authorization", `Bearer ${shown}`);
    request.upload.onprogress = (event) => {
      if (event.lengthComputable) onSent(event.loaded / event.total);
    };
    request.onload = () => {
      if (request.status === 202) resolve(request.responseText);
      else {
        const after = request.getResponseHeader("Retry-After");
        reject(problem(request.status, request.responseText, after, shown));
      }
    };
    request.onerror = () => reject(new Problem(0, ""));
    request.onabort = () => reject(new DOMException("", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
  return answer.then(parsed);
}
