// Many items and large files on their way to the engine: in pages, with progress, said again after a break.

import { addressOf, ask, Refusal, token } from "./access.js";

const PAGE_ITEMS = 2000;
const PAGE_LETTERS = 1 << 20;
const PATIENCE = 120_000; // milliseconds for which an engine that does not answer is asked again

const key = () => crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`.replace(".", "");

/**
 * Send `items`, a (possibly asynchronous) row of them, to a project in pages; `told({sent, known})` after each.
 * With `stop()` true it ends after the page that is under way, properly: all pages are parts of one job where a
 * gather waits for them. `keyOf(item)` may give each a key.
 */
export async function sendItems(path, items, { keyOf = null, told = () => {}, stop = () => false, signal } = {}) {
  const done = { sent: 0, known: 0 };
  let root = null;
  for await (const { page, isLast } of pagesOf(items, stop)) {
    const json = { items: page, root, is_last: isLast, ...(keyOf && { keys: page.map(keyOf) }) };
    const added = await patiently((headers) => ask("POST", path, { json, headers, signal }), signal);
    root = added.root ?? null;
    done.sent += page.length;
    done.known += added.known ?? 0;
    told(done);
  }
  return done;
}

async function* pagesOf(items, stop) {
  let page = [];
  let letters = 0;
  for await (const item of items) {
    if (page.length && (page.length >= PAGE_ITEMS || letters >= PAGE_LETTERS)) {
      if (stop()) break;
      yield { page, isLast: false };
      [page, letters] = [[], 0];
    }
    page.push(item);
    letters += typeof item === "string" ? item.length : JSON.stringify(item).length;
  }
  if (page.length) yield { page, isLast: true };
}

/** What `send(headers)` is answered; said again under one key while nobody answers. */
async function patiently(send, signal) {
  const until = performance.now() + PATIENCE;
  const headers = { "Idempotency-Key": key() };
  for (;;) {
    try {
      return await (await send(headers)).json();
    } catch (error) {
      const mayPass = !(error instanceof Refusal) || error.status === 503 || error.status === 502;
      if (signal?.aborted || !mayPass || performance.now() > until) throw error;
      await new Promise((wake) => setTimeout(wake, 1000));
    }
  }
}

/** Send `file` as it is; `told(bytes)` while it goes. */
export const sendFile = (path, query, file, options) => sendBody(addressOf(path, query), file, { type: "application/octet-stream", ...options });

/** Send `form`, a FormData, with the files in it; `told(bytes, all)` while it goes. */
export const sendForm = (path, form, options) => sendBody(addressOf(path), form, options);

/** `fetch` does not say how much is sent, this does. */
function sendBody(address, body, { type = null, told = () => {}, signal } = {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address);
    if (type) request.setRequestHeader("Content-Type", type);
    request.setRequestHeader("Authorization", `Bearer ${token()}`);
    request.upload.onprogress = ({ loaded, total }) => told(loaded, total);
    request.onload = () => (request.status < 300 ? resolve(JSON.parse(request.responseText)) : reject(refusalOf(request)));
    request.onerror = () => reject(new Error("the connection broke"));
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    signal?.addEventListener("abort", () => request.abort());
    request.send(body);
  });
}

function refusalOf({ status, statusText, responseText }) {
  try {
    const { error, message, facts } = JSON.parse(responseText);
    return new Refusal(status, error, message, facts);
  } catch {
    return new Refusal(status, "", `${status} ${statusText}`);
  }
}
