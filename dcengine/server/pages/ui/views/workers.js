// Who works: the machines of the cluster, and outside workers.

import { get } from "../access.js";
import { h, say } from "../dom.js";
import { heads, link, named, orderOf, row, sorted, state } from "../parts.js";
import { renew } from "../renew.js";
import { ago, count } from "../words.js";
import { invitation } from "./welcome.js";

const MOST = 1000; // rows of one list: who looks for more finds it by text
const PAGE = 50; // rows that are drawn; the others wait behind a button
const MANY = 500; // workers from which on each event is not worth a look
const TAGS_SHOWN = 6;
const NOBODY = { workers: [], found: 0, total: 0 };

export async function view(place) {
  const inside = list("Machines", insideColumns, (worker) => `${worker.name} ${tagsOf(worker).join(" ")} ${worker.contributor} ${worker.state} ${Object.values(worker.says).join(" ")}`);
  const outside = list("Outside workers", outsideColumns, null, () => found?.());
  const remark = h("div");
  const text = h("input", { type: "search", name: "text", value: place.query.text ?? "", placeholder: "name, tag, project", oninput: find });
  const tags = h("input", { type: "search", name: "tags", value: place.query.tags ?? "", placeholder: "gpu, memory>=16GiB", spellcheck: "false" });
  let number = 0;
  let outsiders = NOBODY;
  let asked = 0; // how often outside workers were asked for
  let found = null; // has what is typed looked for, soon
  find();
  const now = place.live(refresh, { concerns: () => number < MANY, pause: 2000, every: 5 });
  found = place.live(refreshOutside, { concerns: () => false, pause: 200 });
  return [h("h1", "Workers"), filters(), remark, inside.element, outside.element];

  function filters() {
    const ask = (event) => (event.preventDefault(), place.keep({ tags: tags.value.trim() }), now());
    return h("form.filters", { role: "search", onsubmit: ask, onchange: ask }, h("label", "Text", text), h("label", "Tags", tags), h("button", "Find"));
  }

  function find() {
    place.keep({ text: text.value });
    inside.find(text.value);
    outside.find(text.value);
    found?.();
  }

  async function findOutside() {
    const mine = ++asked;
    const answer = await get("v1/outside-workers/found", { tags: place.query.tags || null, ...outside.wish() }, place.signal);
    if (mine === asked) outsiders = answer; // one that comes late tells of what was looked for before
  }

  async function refreshOutside() {
    if (!number) return;
    await findOutside();
    outside.show(outsiders.workers, outsiders);
  }

  async function refresh() {
    const expression = place.query.tags || null;
    const [machines, said] = await Promise.all([
      get("v1/workers", { tags: expression }, place.signal),
      expression && get("v1/explain", { tags: expression }, place.signal),
      findOutside(),
    ]).catch((error) => {
      if (error.status !== 400 || !expression) throw error;
      outsiders = NOBODY;
      return [[], { sentence: error.message }];
    });
    number = machines.length + outsiders.total;
    inside.show(machines);
    outside.show(outsiders.workers, outsiders);
    const isNobodyMeant = said && !machines.length && !outsiders.found;
    renew(remark, [isNobodyMeant ? h("p.warning", said.sentence) : !expression && !number && invitation(place)]);
  }
}

const insideColumns = [
  ["Worker", (worker) => link.worker(worker.name), "", (worker) => worker.name],
  ["State", condition, "", (worker) => stateOf(worker)],
  ["Slots", (worker) => `${count(worker.busy)} of ${count(worker.slots)}`, "number", (worker) => worker.busy],
  ["Runs", runs, "wide", (worker) => worker.running.length],
  ["Tags", (worker) => tagList(worker, TAGS_SHOWN), "wide"],
  ["Per hour", (worker) => perHour(worker), "number", (worker) => worker.per_hour],
  ["Heard of", (worker) => ago(worker.last_seen), "brief", (worker) => worker.last_seen ?? 0],
  ["For", (worker) => link.contributor(worker.contributor), "wide", (worker) => worker.contributor],
];
const outsideColumns = [
  ["Worker", (worker) => link.worker(worker.name), "", (worker) => worker.name, "name"],
  ["State", (worker) => state(worker.holding.length ? "busy" : "idle"), "", (worker) => (worker.holding.length ? "busy" : "idle"), "state"],
  ["At", (worker) => [link.project(worker.project), `, ${worker.stage}`], "wide", (worker) => `${worker.project} ${worker.stage}`, "at"],
  ["Has", (worker) => held(worker), "wide", (worker) => worker.holding.length, "has"],
  ["Says", (worker) => worker.progress && named(worker.progress, 200), "wide", (worker) => worker.progress, "says"],
  ["Tags", (worker) => tagList(worker, TAGS_SHOWN), "wide"],
  ["Done", (worker) => count(worker.completed), "number", (worker) => worker.completed, "done"],
  ["Per hour", (worker) => perHour(worker), "number", (worker) => worker.per_hour, "per_hour"],
  ["Heard of", (worker) => ago(worker.last_seen), "brief", (worker) => worker.last_seen, "heard"],
  ["For", (worker) => link.contributor(worker.nickname), "wide", (worker) => worker.nickname, "for"],
];

// ---- what a worker is, also for its own page ------------------------------------------------

export const perHour = (worker) => (worker.per_hour ? count(Number(worker.per_hour.toPrecision(3))) : "—");

export const stateOf = (worker) => (worker.state === "ready" && worker.busy ? "busy" : worker.state);

/** The state of a machine with the reason for it, and for what it is set aside. */
export function condition(worker) {
  const aside = Object.entries(worker.set_aside);
  return [
    state(stateOf(worker)),
    worker.reason && h("div.quiet", worker.reason),
    aside.map(([what, why]) => h("div.quiet", { title: why }, `set aside for ${what}`)),
  ];
}

/** The jobs that run on a machine, each with what it says. */
export function runs(worker, most = 8) {
  const shown = worker.running.slice(0, most).map((job) => h("div", link.job(job), worker.says[job] && h("span.quiet", " ", named(worker.says[job], 200))));
  return [shown, worker.running.length > most && h("div.quiet", `and ${count(worker.running.length - most)} more`)];
}

/** The jobs in the hands of an outside worker. */
export function held(worker, most = 5) {
  if (!worker.holding.length) return "—";
  const links = worker.holding.slice(0, most).map((number, n) => [n ? ", " : "", link.job(worker.jobs[n], `${worker.project}/${number}`)]);
  return [links, worker.holding.length > most && ` and ${count(worker.holding.length - most)} more`];
}

/** Its tags as text, those of its owner's making first. */
export function tagsOf(worker) {
  const own = new Set(worker.own ?? []);
  const names = Object.keys(worker.tags);
  return [...names.filter((name) => own.has(name)), ...names.filter((name) => !own.has(name))].map((name) => tagText(worker, name));
}

export const tagText = (worker, name) => (worker.tags[name] === null ? name : `${name}=${worker.tags[name]}`);

function tagList(worker, most) {
  const tags = tagsOf(worker);
  const own = worker.own?.length ?? 0;
  if (!tags.length) return null;
  return h(
    "div.tags",
    tags.slice(0, most).map((tag, n) => h("span.tag", { class: n < own ? "own" : "" }, tag)),
    tags.length > most && h("span.quiet", { title: tags.slice(most).join(", ") }, `and ${count(tags.length - most)} more`),
  );
}

// ---- a list, however long --------------------------------------------------------------------

/**
 * A page of it is in the document, and what has not changed there stays as it is. Where `ask` is given, the engine finds
 * and orders as `wish()` says, and no more than that page travels.
 */
function list(title, columns, textOf, ask = null) {
  const order = orderOf(title);
  const body = h("tbody");
  const more = h("button", { type: "button", onclick: () => ((shownRows += PAGE), again()) }, "More");
  const sum = h("span.quiet");
  const table = h("table", h("caption.unseen", title), heads(columns, order, again), body);
  const element = h("section.card", { hidden: true }, h("div.head", h("h2", title), sum), h("div.stacked.scroll", { tabindex: "0", role: "region", "aria-label": title }, table), more);
  let items = [];
  let numbers = {};
  let words = [];
  let shownRows = PAGE;
  return {
    element,
    show(some, { found = null, total = null } = {}) {
      items = some;
      numbers = { found, total };
      draw();
    },
    find(text) {
      words = text.toLowerCase().split(/\s+/).filter(Boolean);
      shownRows = PAGE;
      if (!ask) draw();
    },
    wish() {
      const by = columns.find(([each]) => each === order.title)?.[4];
      return { text: words.join(" "), order: by && `${order.isDown ? "-" : ""}${by}`, limit: Math.min(shownRows, MOST) };
    },
  };

  function again() {
    (ask ?? draw)();
  }

  function draw() {
    const meant = words.length && !ask ? items.filter(isMeant) : items;
    const found = numbers.found ?? meant.length;
    const total = numbers.total ?? items.length;
    element.hidden = !total;
    more.hidden = found <= shownRows || shownRows >= MOST;
    say(sum, found === total ? count(total) : `${count(found)} of ${count(total)}`);
    const rows = ask ? items : sorted(columns, meant, order).slice(0, shownRows);
    renew(body, rows.map((item) => row(columns, item, (each) => `${each.name} ${each.project ?? ""}`)));
  }

  function isMeant(item) {
    const text = textOf(item).toLowerCase();
    return words.every((word) => text.includes(word));
  }
}
