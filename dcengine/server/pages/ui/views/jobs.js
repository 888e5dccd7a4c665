// Jobs by what people know of them, page after page; several of them at once may be acted on.

import { get } from "../access.js";
import { h, say } from "../dom.js";
import { link, state } from "../parts.js";
import { renew } from "../renew.js";
import { ago, count, duration, moment, shortName } from "../words.js";
import { Selection } from "./selecting.js";

const STATES = ["", "open", "succeeded", "failed", "cancelled"];
const FILTERS = ["text", "project", "stage", "state", "submitter", "worker"];
const LIMIT = 50;

export const columns = [
  ["Job", (job) => link.job(job.id, job.project === "functions" ? `#${job.id}` : `${job.project}/${job.number}`)],
  ["What", (job) => [shortName(job.name) || job.stage || "task", job.key && h("div.quiet", job.key)]],
  ["State", (job) => [state(job.state === "open" ? job.task_state : job.state), job.reason && h("div.quiet.short", { title: job.reason }, job.reason)]],
  ["Stage", (job) => job.stage],
  ["Worker", (job) => link.worker(job.worker)],
  ["Brought by", (job) => h("a", { href: `#/jobs?submitter=${encodeURIComponent(job.submitter)}` }, job.submitter)],
  ["When", (job) => h("span", { title: moment(job.created) }, job.finished ? `${ago(job.finished)}, after ${duration(job.finished - job.created)}` : ago(job.created))],
];

export async function view(place) {
  const { query } = place;
  const wanted = Object.fromEntries(FILTERS.map((name) => [name, query[name]]));
  const trail = (query.trail ?? "").split(".").filter(Boolean); // where the pages before this one began, newest first
  const body = h("tbody");
  const selection = place.may("submit") ? new Selection(body, { done: () => again() }) : null;
  const heads = h("tr", selection && h("th", { scope: "col" }, selection.all), columns.map(([title]) => h("th", { scope: "col" }, title)));
  const list = h("div.stacked.scroll", { tabindex: "0", role: "region", "aria-label": "Jobs" }, h("table", h("caption.unseen", "Jobs"), h("thead", heads), body));
  const none = h("p.empty", { hidden: true });
  const looking = h("p.quiet", { role: "status" });
  const newer = h("button", { type: "button", hidden: !query.before, onclick: () => place.ask({ ...wanted, before: trail[0], trail: trail.slice(1).join(".") }) }, "Newer");
  const older = h("button", { type: "button", hidden: true, onclick: () => place.ask({ ...wanted, before: older.dataset.before, trail: [query.before ?? "", ...trail].join(".") }) }, "Older");
  const again = place.live(refresh, { pause: 2000 });
  return [h("h1", "Jobs"), await filters(place, wanted), selection?.element ?? null, none, list, looking, h("div.acts.pages", newer, older)];

  async function refresh() {
    const page = await load();
    renew(body, page.jobs.map((job) => row(job)));
    selection?.show(page.jobs);
    list.hidden = !page.jobs.length;
    none.hidden = page.jobs.length > 0;
    if (!page.jobs.length) renew(none, nothing(wanted, query));
    older.dataset.before = page.before ?? "";
    older.hidden = page.before === null;
  }

  function row(job) {
    const cells = columns.map(([title, content]) => h("td", { "data-title": title }, content(job)));
    return h("tr", { "data-key": String(job.id) }, selection && h("td.check", selection.box(job)), cells);
  }

  /** This page: where few fit, many are looked at, and it says so. */
  async function load() {
    const jobs = [];
    let before = query.before ?? null;
    do {
      const page = await get("v1/jobs/found", { ...wanted, before, limit: LIMIT - jobs.length }, place.signal);
      jobs.push(...page.jobs);
      before = page.before;
      say(looking, before !== null && jobs.length < LIMIT ? `looking at jobs before #${before}…` : "");
    } while (before !== null && jobs.length < LIMIT);
    return { jobs, before };
  }
}

/** What to do where no job is shown. */
function nothing(wanted, { before }) {
  if (Object.values(wanted).some(Boolean)) return ["No job is like that. ", h("a", { href: "#/jobs" }, "All jobs")];
  if (before) return ["There are no older jobs. ", h("a", { href: "#/jobs" }, "The newest")];
  return ["No jobs yet. ", h("a", { href: "#/" }, "Projects"), " says how to bring the first one. Calls that are mapped in batches are shown there too."];
}

async function filters(place, wanted) {
  const projects = await get("v1/projects", {}, place.signal).catch(() => []);
  const names = h("datalist", { id: "project-names" }, projects.map(({ name }) => h("option", { value: name })));
  const stages = h("datalist", { id: "stage-names" }, [...new Set(projects.filter(({ name }) => !wanted.project || name === wanted.project).flatMap((project) => project.stages.map(({ name }) => name)))].map((name) => h("option", { value: name })));
  const text = (name, label, list = null) => h("label", label, h("input", { name, value: wanted[name] ?? "", type: "search", list, autocomplete: "off" }));
  const chosen = h("select", { name: "state" }, STATES.map((each) => h("option", { value: each, selected: each === (wanted.state ?? "") }, each || "any")));
  const form = h(
    "form.filters",
    { role: "search", onsubmit: (event) => (event.preventDefault(), place.ask(Object.fromEntries(new FormData(form)))), onchange: () => form.requestSubmit() },
    text("text", "Text, key or number"), text("project", "Project", "project-names"), text("stage", "Stage", "stage-names"), h("label", "State", chosen), text("submitter", "Brought by"), text("worker", "Worker"),
    h("button", "Find"), Object.values(wanted).some(Boolean) && h("a.button", { href: "#/jobs" }, "All"), names, stages,
  );
  return form;
}
