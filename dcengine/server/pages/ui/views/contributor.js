// One contributor: what was earned, when and where, by which workers, and what may be done about it.

import { get } from "../access.js";
import { Bars } from "../chart.js";
import { h } from "../dom.js";
import { button, card, link, named, state, table } from "../parts.js";
import { renew } from "../renew.js";
import { ago, count, many, moment } from "../words.js";
import { SPANS } from "./leaderboard.js";

const HOUR = 3600; // seconds
const [DAY, DAYS] = [24, 30]; // hours, and how many days are shown

export async function view(place) {
  const { name } = place.parameters;
  const head = h("div");
  const told = reporter();
  const now = place.live(refresh, { concerns: (event) => event.contributor === name, pause: 3000, every: 15 }); // hours go by
  return [head, told.element];

  async function refresh() {
    const report = await get("v1/contributor", { nickname: name }, place.signal);
    renew(head, [
      h("div.head", h("h1", named(name, Infinity), " ", report.banned && state("banned")), place.may("admin") && acts(report)),
      report.banned && h("p.warning", `Banned since ${moment(report.banned)}: nothing is taken from it.`),
    ]);
    told.show(report);
  }

  function acts(report) {
    const json = { nickname: name };
    const voided = (done) => `${many(done.voided, "task")} of ${name} count no more, ${count(done.requeued)} are queued again`;
    return h(
      "div.acts",
      report.banned
        ? button("Welcome again", { path: "v1/contributors/unban", json, done: `${name} is welcome again`, after: now })
        : button("Ban", { path: "v1/contributors/ban", json, look: "danger", ask: ["Ban ", named(name), "? Nothing is taken from it any more, and all that it did is done again: its credit is void for good."], done: voided, after: now }),
    );
  }
}

/** What is known of one contributor, also where it is told to itself: `show(report)` brings `element` up to date. */
export function reporter({ canLook = true } = {}) {
  const where = (project) => (project === "functions" ? "calls" : canLook ? link.project(project) : h("bdi", project));
  const hours = new Bars({ title: "The last 24 hours", unit: "credit in each hour" });
  const days = new Bars({ title: "The last 30 days", unit: "credit in each day" });
  const above = h("div");
  const below = h("div");
  const element = h("div", above, h("div.cards.two", h("section.card", hours.element), h("section.card", days.element)), below);
  return { element, show };

  function show(report) {
    renew(above, [card("Place", table(places, SPANS.map(([span, label]) => ({ label, ...report.places[span] })), { caption: "Place" }))]);
    hours.show([["credit", sums(report.hours, DAY, 1)]], (n) => at(report, (DAY - 1 - n) * HOUR, { hour: "2-digit" }));
    days.show([["credit", sums(report.hours, DAYS, DAY)]], (n) => at(report, (DAYS - 1 - n) * DAY * HOUR, { day: "numeric", month: "short" }));
    renew(below, [
      h("div.cards.two",
        card("Where", table(inProjects(where), report.projects, { caption: "Credit by project", empty: "No credit yet." })),
        report.stages.length > 0 && card("At which stages, of late", table(atStages(where), report.stages, { caption: "Credit by stage" }))),
      report.newest.length > 0 && card("Done last", table(newest(where, canLook), report.newest, { caption: "Done last" })),
      (report.workers.length > 0 || report.machines.length > 0) && card("Workers", h("div.stacked", table(workers(where, canLook), [...report.workers, ...report.machines.map((name) => ({ name }))], { caption: "Workers", key: (worker) => `${worker.name} ${worker.project}` }))),
    ]);
  }
}

/** Sums of `size` hours each, the last ones up to now. */
function sums(hours, length, size) {
  const from = hours.length - length * size;
  return Array.from({ length }, (_, n) => hours.slice(Math.max(0, from + n * size), Math.max(0, from + (n + 1) * size)).reduce((sum, each) => sum + each, 0));
}

const at = (report, before, options) => new Date((report.at - before) * 1000).toLocaleString([], options);

const places = [
  ["Span", (place) => place.label],
  ["Credit", (place) => count(place.units ?? 0), "number"],
  ["Rank", (place) => (place.rank ? `${count(place.rank)} of ${count(place.contributors)}` : "—"), "number"],
];
const inProjects = (where) => [
  ["Project", (each) => where(each.project)],
  ["24 hours", (each) => count(each.day), "number"],
  ["30 days", (each) => count(each.month), "number"],
  ["Ever", (each) => count(each.units), "number"],
];
const atStages = (where) => [
  ["Stage", (each) => [where(each.project), each.stage ? `, ${each.stage}` : ", jobs that are gone"]],
  ["Credit", (each) => count(each.units), "number"],
];
const newest = (where, canLook) => [
  ["What", (each) => [where(each.project), each.stage && `, ${each.stage}`]],
  ["Job", (each) => (each.job === null ? "—" : canLook ? link.job(each.job, String(each.number)) : count(each.number))],
  ["Credit", (each) => count(each.units), "number"],
  ["When", (each) => h("span", { title: moment(each.at) }, ago(each.at))],
];
const workers = (where, canLook) => [
  ["Worker", (worker) => (canLook ? link.worker(worker.name) : named(worker.name))],
  ["At", (worker) => (worker.project ? [where(worker.project), `, ${worker.stage}`] : "a machine of the cluster")],
  ["Has", (worker) => (worker.project ? count(worker.holding.length) : ""), "number"],
  ["Done", (worker) => (worker.project ? count(worker.completed) : ""), "number"],
  ["Heard of", (worker) => (worker.last_seen ? ago(worker.last_seen) : "")],
];
