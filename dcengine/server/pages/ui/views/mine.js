// What the token of whoever looks has brought, done and holds: all that a volunteer sees.

import { get } from "../access.js";
import { h, update } from "../dom.js";
import { card, firstSteps, link, named, state, table } from "../parts.js";
import { renew } from "../renew.js";
import { ago, count, duration, many } from "../words.js";
import { reporter } from "./contributor.js";
import { columns } from "./jobs.js";
import { addressed } from "./welcome.js";

const BRINGS = ["admin", "submit"]; // roles that may bring jobs
const DOES = ["worker"]; // those that do their tasks
const LIMIT = 50;
const FIRST = {
  worker: (mine) => [`Tasks of ${mine.project} are done with`, addressed(`dcengine worker "ADDRESS" --project '${mine.project}' --stage STAGE -- ./my-program`)],
  join: () => ["A machine joins with", addressed('dcengine join "ADDRESS"')],
  submit: () => ["Jobs are brought, in Python, with", addressed('import dcengine\n\ndcengine.connect("ADDRESS")\nprint(dcengine.submit(pow, 2, 10).result())')],
  view: () => ["This token may look, and do nothing else: ", h("a", { href: "#/" }, "all projects")],
};
FIRST.admin = FIRST.submit;

export async function view(place) {
  const canLook = place.may("submit") || place.may("view");
  const [head, told, brought] = [h("div"), h("div"), h("div")];
  const away = h("p.warning", { hidden: true }, "The engine does not answer; this page goes on by itself.");
  const reporters = new WeakMap();
  place.live(refresh, { pause: 2000, every: 3 }); // not every token may follow the events
  return [away, head, told, brought];

  async function refresh() {
    try {
      const [mine, page] = await Promise.all([get("v1/mine", {}, place.signal), get("v1/mine/jobs", { limit: LIMIT }, place.signal)]);
      away.hidden = true;
      show(mine, page);
    } catch (error) {
      if (!error.isUnreachable) throw error;
      away.hidden = false;
    }
  }

  function show(mine, page) {
    const { role } = mine;
    const isNew = !mine.workers.length && !mine.contributors.some((each) => each.projects.length) && !page.jobs.length && !mine.batches.length;
    renew(head, [
      h("h1", mine.nickname ? named(mine.nickname, Infinity) : "Mine"),
      h("p.quiet", who(mine)),
      isNew && firstSteps("Nothing was done with this token yet.", ...FIRST[role](mine)),
      !isNew && (mine.held > 0 || DOES.includes(role)) && holding(mine),
    ]);
    update(told, isNew ? [] : mine.contributors, (report) => report.nickname, (report) => about(report, mine), (section, report) => reporters.get(section).show(report));
    renew(brought, BRINGS.includes(role) && !isNew ? jobs(mine, page) : []);
  }

  function about(report, mine) {
    const reported = reporter({ canLook });
    const section = h("section", { "aria-label": report.nickname }, report.nickname !== mine.nickname && h("h2", named(report.nickname)), report.banned && h("p.warning", "Banned: nothing is taken from this name any more."), reported.element);
    reporters.set(section, reported);
    reported.show(report);
    return section;
  }

  function jobs(mine, page) {
    return [
      card("Jobs brought with this token", h("div.stacked", table(columns, page.jobs, { caption: "Jobs", key: (job) => job.id, empty: "None on their own." })), page.before !== null && h("p.hint", h("a", { href: "#/jobs" }, "older ones are among all jobs"))),
      mine.batches.length > 0 && card("Many calls at once", h("div.stacked", table(batches, mine.batches, { caption: "Batches", key: (batch) => batch.id }))),
    ];
  }

  function holding(mine) {
    return card("In hand now", h("div.stacked", table(held(canLook), mine.holding, { caption: "In hand", key: (task) => `${task.project} ${task.number}`, empty: "Nothing." })), mine.held > mine.holding.length && h("p.hint", `of ${count(mine.held)}, those that end first`));
  }
}

const address = () => new URL(".", document.baseURI).href.replace(/\/$/, "");

function who(mine) {
  const token = mine.token === null ? "the engine's own token" : `token ${mine.token}`;
  return `${token}, role ${mine.role}${mine.project ? `, for ${mine.project}` : ""}`;
}

const held = (canLook) => [
  ["Job", (task) => (canLook ? link.job(task.job, `${task.project}/${task.number}`) : h("bdi", `${task.project}/${task.number}`))],
  ["Stage", (task) => h("bdi", task.stage)],
  ["Worker", (task) => (canLook ? link.worker(task.worker) : named(task.worker))],
  ["Says", (task) => task.says && named(task.says, 200)],
  ["Time left", (task) => duration(Math.max(0, task.deadline - Date.now() / 1000))],
];
const batches = [
  ["Batch", (batch) => `#${batch.id}`],
  ["What", (batch) => batch.name],
  ["State", (batch) => state(batch.state)],
  ["Done", (batch) => `${count(batch.succeeded)} of ${count(batch.count)}`, "number"],
  ["Failed", (batch) => count(batch.failed), "number"],
  ["When", (batch) => ago(batch.created)],
];
