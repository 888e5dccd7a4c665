// One worker: what it has, what it runs, what it did, what went wrong there.

import { act, get } from "../access.js";
import { h } from "../dom.js";
import { card, field, formDialog, link, named, state, table } from "../parts.js";
import { renew } from "../renew.js";
import { ago, count, moment } from "../words.js";
import { columns } from "./jobs.js";
import { held, perHour, runs, stateOf, tagText } from "./workers.js";

export async function view(place) {
  const { name } = place.parameters;
  const head = h("div");
  const failed = h("div");
  const done = h("div");
  const now = place.live(refresh, { concerns: (event) => event.worker === name, pause: 2000, every: 5 });
  return [head, card("What failed there last", failed), card("Jobs that it has, or had last", done)];

  async function refresh() {
    const [[machine], outsiders, found, wrong] = await Promise.all([
      get("v1/workers", { name }, place.signal),
      get("v1/outside-workers", { name }, place.signal),
      get("v1/jobs/found", { worker: name, limit: 50 }, place.signal),
      get("v1/jobs/found", { worker: name, state: "failed", limit: 20 }, place.signal),
    ]);
    const condition = machine ? stateOf(machine) : outsiders.length ? (outsiders.some((each) => each.holding.length) ? "busy" : "idle") : "gone";
    renew(head, [
      h("div.head", h("h1", named(name), " ", state(condition)), machine && place.may("submit") && acts(machine)),
      machine && ofMachine(machine),
      outsiders.map(ofOutsider),
      !machine && !outsiders.length && h("p.quiet", "It is not connected now. What it did stands below."),
    ]);
    renew(done, [h("div.stacked", table(columns, found.jobs, { caption: "Jobs", key: (job) => job.id, empty: nothing(found) }))]);
    renew(failed, [h("div.stacked", table(failures, wrong.jobs, { caption: "Failures", key: (job) => job.id, empty: nothing(wrong) }))]);
  }

  function acts(machine) {
    return h("div.acts", h("button", { type: "button", onclick: () => giveTags(machine, now) }, "Give tags"));
  }
}

const nothing = (page) => (page.before === null ? "Nothing." : "Nothing among the newest.");

const failures = [
  ["Job", (job) => link.job(job.id, job.project === "functions" ? `#${job.id}` : `${job.project}/${job.number}`)],
  ["Why", (job) => h("span.reason", job.reason)],
  ["When", (job) => h("span", { title: moment(job.finished) }, ago(job.finished))],
];

function ofMachine(worker) {
  const own = new Set(worker.own);
  const tags = (names) => h("div.tags", names.map((name) => h("span.tag", { class: own.has(name) ? "own" : "" }, tagText(worker, name))));
  const found = Object.keys(worker.tags).filter((name) => !own.has(name));
  return [
    worker.reason && h("p.warning", worker.reason),
    Object.entries(worker.set_aside).map(([what, why]) => h("p.warning", `It is given nothing of ${what} for a while: ${why}`)),
    facts([
      ["Slots", `${count(worker.busy)} of ${count(worker.slots)} busy`],
      ["Runs", worker.running.length ? runs(worker, 50) : "nothing"],
      ["Tags it was given", worker.own.length ? tags(worker.own) : "none"],
      ["Found there", tags(found)],
      ["Devices", devices(worker)],
      ["Does in an hour", perHour(worker)],
      ["Works for", link.contributor(worker.contributor)],
      ["Since", worker.since && moment(worker.since)],
      ["Heard of", worker.last_seen && ago(worker.last_seen)],
      ["Address", h("code", worker.address)],
    ]),
  ];
}

/** How many devices of each kind are lent, of how many: those that have a tag with their number. */
function devices(worker) {
  const kinds = new Set([...Object.keys(worker.devices), ...Object.keys(worker.tags).filter((name) => name.endsWith(".count") && name !== "cpu.count").map((name) => name.slice(0, -6))]);
  return [...kinds].map((kind) => h("div", `${kind}: ${count(worker.devices[kind] ?? 0)} of ${worker.tags[`${kind}.count`] ?? 1} lent`));
}

const ofOutsider = (worker) =>
  facts([
    ["At", [link.project(worker.project), `, ${worker.stage}`]],
    ["Has", worker.holding.length ? held(worker, 50) : "nothing"],
    ["Says", worker.progress ? named(worker.progress, 200) : "nothing"],
    ["Tags it says it has", h("div.tags", Object.keys(worker.tags).map((name) => h("span.tag", tagText(worker, name))))],
    ["Done", count(worker.completed)],
    ["Does in an hour", perHour(worker)],
    ["Works for", link.contributor(worker.nickname)],
    ["Since", moment(worker.first_seen)],
    ["Heard of", ago(worker.last_seen)],
  ]);

const facts = (known) => h("section.card", h("dl.facts", known.filter(([, value]) => value && value.length !== 0).map(([name, value]) => [h("dt", name), h("dd", value)])));

function giveTags(worker, done) {
  const own = worker.own.map((name) => (worker.tags[name] === null ? name : `${name}=${quoted(worker.tags[name])}`)).join(", ");
  const input = h("input", { name: "tags", value: own, spellcheck: "false" });
  formDialog(`Tags of ${worker.name}`, [field("Tags", input, "Such as gpu, site=lab: in place of those that it was given before. What was found there stays.")], "Give them", async (data) => {
    await act("POST", "v1/workers/tag", { query: { name: worker.name, tags: data.get("tags") } });
    done();
  });
}

const quoted = (value) => (/[,;"']/.test(value) ? `"${value}"` : value);
