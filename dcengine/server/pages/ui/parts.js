// What several views show: states, bars, links, tables, questions before something cannot be undone.

import { act } from "./access.js";
import { fill, h } from "./dom.js";
import { complain, note } from "./notes.js";
import { renew } from "./renew.js";
import { count, percent } from "./words.js";

const ENDED = ["succeeded", "failed", "cancelled"];
const RUNNING = ["leased"];
const WAITING = ["queued", "waiting", "blocked"];

export const link = {
  project: (name) => h("a", { href: `#/projects/${encodeURIComponent(name)}` }, name),
  job: (id, label = `#${id}`) => h("a", { href: `#/jobs/${id}` }, label),
  worker: (name) => (name ? h("a", { href: `#/workers/${encodeURIComponent(name)}` }, named(name)) : null),
  contributor: (name) => (name ? h("a", { href: `#/contributors/${encodeURIComponent(name)}` }, named(name)) : null),
};

const UNSEEN = /[\p{Cc}\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]/gu; // those that join emoji are left

/** A name that somebody has given, cut where it is long: what cannot be seen of it, or turns text round, is spelt out. */
export function named(name, most = 60) {
  const seen = name.trim() ? name.replace(UNSEEN, (mark) => `\\u${mark.codePointAt(0).toString(16).padStart(4, "0")}`) : JSON.stringify(name);
  const letters = [...seen];
  return letters.length <= most ? h("bdi", seen) : h("bdi", { title: seen }, `${letters.slice(0, most).join("")}…`);
}

/** The state of something: its colour, its shape, its word. */
export const state = (name, title = null) => h("span.state", { class: name, title }, name === "leased" ? "running" : name);

/** How many are queued, running, done and failed, of counts by state. */
export function funnelOf(counts) {
  const sum = (states) => states.reduce((total, each) => total + (counts[each] ?? 0), 0);
  return { queued: sum(WAITING), running: sum(RUNNING), done: counts.succeeded ?? 0, failed: counts.failed ?? 0, cancelled: counts.cancelled ?? 0 };
}

/** A bar of parts: [[class, number], ...]; what they are is said in words for those who do not see it. */
export function bar(parts, label) {
  const total = parts.reduce((sum, [, n]) => sum + n, 0);
  const pieces = parts.filter(([, n]) => n).map(([look, n]) => h("span", { class: look, style: { flex: String(n) } }));
  return h("div.bar", { role: "img", "aria-label": label }, total ? pieces : null);
}

export function progressBar({ done, total, failed = 0, cancelled = 0, running = 0 }) {
  const label = total ? `${count(done)} of ${count(total)} (${percent(done / total)})` : "nothing to do";
  const succeeded = done - failed - cancelled;
  return bar([["succeeded", succeeded], ["failed", failed], ["cancelled", cancelled], ["leased", running], ["rest", Math.max(0, total - done - running)]], label);
}

/**
 * A table with a row for each item: columns are [title, item => content, class, item => what it is sorted by]. Those
 * that say by what are sorted by a press on their title.
 */
export function table(columns, items, { caption, empty = "Nothing here.", key = null } = {}) {
  if (!items.length) return h("p.empty", empty);
  const order = orderOf(caption);
  const rows = () => sorted(columns, items, order).map((item) => row(columns, item, key));
  const body = h("tbody", rows());
  const head = heads(columns, order, (event) => renew(event.currentTarget.closest("table").tBodies[0], rows()));
  return h("div.scroll", { tabindex: "0", role: "region", "aria-label": caption }, h("table", h("caption.unseen", caption), head, body));
}

export function row(columns, item, key) {
  const cells = columns.map(([title, content, look = ""]) => h("td", { class: look, "data-title": title }, content(item)));
  return h("tr", { "data-key": key && String(key(item)) }, cells);
}

// ---- in which order tables are, for as long as the page is open ----------------------------

const orders = new Map();

/** By which column the table `name` is sorted: {title, isDown}; no title as long as nobody has chosen one. */
export function orderOf(name) {
  if (!orders.has(name)) orders.set(name, { title: null, isDown: false });
  return orders.get(name);
}

/** `items` as `order` wants them. */
export function sorted(columns, items, { title, isDown }) {
  const by = columns.find(([each]) => each === title)?.[3];
  if (!by) return items;
  const compare = (one, other) => (typeof one === "number" ? one - other : NAMES.compare(String(one ?? ""), String(other ?? "")));
  const found = [...items].sort((one, other) => compare(by(one), by(other)));
  return isDown ? found.reverse() : found;
}

const NAMES = new Intl.Collator("en", { numeric: true });

/** The head of a table; `change(event)` draws its rows anew after another order was chosen. */
export function heads(columns, order, change) {
  const head = h("thead", h("tr", columns.map(cell)));
  return head;

  function cell([title, , look = "", by]) {
    const isBy = title === order.title;
    const direction = isBy ? (order.isDown ? "descending" : "ascending") : null;
    const content = by ? h("button.sort", { type: "button", onclick: (event) => choose(title, look, event) }, title) : title;
    return h("th", { scope: "col", class: look, "aria-sort": direction }, content);
  }

  /** Numbers begin with the greatest, words with A; the next press turns it round. */
  function choose(title, look, event) {
    order.isDown = order.title === title ? !order.isDown : look.includes("number");
    order.title = title;
    const shown = event.currentTarget.closest("tr");
    change(event);
    renew(shown, columns.map(cell));
  }
}

/** A card with a title. */
export const card = (title, ...content) => h("section.card", h("h2", title), content);

/** What to do where there is nothing yet. */
export function firstSteps(title, ...steps) {
  return h("section.card.first", h("h2", title), steps.map((step) => (typeof step === "string" ? h("p", step) : step)));
}

/** A command to be copied; `whole` is what is copied where something of it, a token say, is better not shown. */
export function command(text, whole = text) {
  const copy = h("button.copy", { type: "button", onclick: take }, "Copy");
  return h("div.command", h("pre", { tabindex: "0" }, h("code", text)), copy);

  async function take(event) {
    const pressed = event.currentTarget;
    if (await isCopied(whole)) pressed.textContent = "Copied";
    else note("The browser does not let this page copy: select the text by hand.", "trouble");
    setTimeout(() => (pressed.textContent = "Copy"), 2000);
  }
}

/** Without TLS browsers copy only what is selected in the old way. */
async function isCopied(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text).then(() => true, () => false);
  const area = h("textarea.unseen", { "aria-hidden": "true", tabindex: "-1" });
  area.value = text;
  document.body.append(area);
  area.select();
  const isDone = document.execCommand("copy");
  area.remove();
  return isDone;
}

/**
 * A button that has the engine do something. With `ask`, it asks first: what cannot be undone is confirmed once.
 */
export function button(label, { method = "POST", path, query, json, ask = null, look = "", done = null, after = null }) {
  return h("button", { type: "button", class: look, onclick: press }, label);

  async function press(event) {
    const pressed = event.currentTarget;
    if (ask && !(await confirmed(ask, label))) return;
    pressed.disabled = true;
    try {
      const answer = await act(method, path, { query, json: typeof json === "function" ? json() : json });
      if (done) note(typeof done === "function" ? done(answer) : done);
      after?.(answer);
    } catch (error) {
      complain(error);
    } finally {
      pressed.disabled = false;
    }
  }
}

/** Ask a question in a dialog; resolves to whether it was answered by yes. */
export function confirmed(question, yes) {
  return new Promise((resolve) => {
    const id = nextId();
    const dialog = h(
      "dialog",
      { role: "alertdialog", "aria-labelledby": id },
      h("form", { method: "dialog" }, h("p", { id }, question), h("div.acts", h("button", { value: "no", autofocus: true }, "Leave it"), h("button.danger", { value: "yes" }, yes))),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** A dialog with a form; `send(data)` may refuse by throwing, which is shown and leaves the dialog open. */
export function formDialog(title, fields, label, send) {
  const id = nextId();
  const trouble = h("p.trouble", { role: "alert" });
  const form = h(
    "form",
    { onsubmit: submit },
    h("h2", { id }, title), fields, trouble,
    h("div.acts", h("button", { type: "button", onclick: () => dialog.close() }, "Close"), h("button.primary", label)),
  );
  const dialog = h("dialog", { "aria-labelledby": id }, form);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();

  async function submit(event) {
    event.preventDefault();
    fill(trouble, []);
    try {
      await send(new FormData(form));
      dialog.close();
    } catch (error) {
      fill(trouble, [error.message]);
    }
  }
}

let lastId = 0;
const nextId = () => `part-${(lastId += 1)}`;

export function field(label, input, hint = "") {
  const id = nextId();
  input.id = id;
  if (hint) input.setAttribute("aria-describedby", `${id}-hint`);
  return h("div.field", h("label", { for: id }, label), input, hint && h("p.hint", { id: `${id}-hint` }, hint));
}
