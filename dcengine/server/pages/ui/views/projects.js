// All projects at a glance, and the calls that belong to none.

import { get } from "../access.js";
import { h } from "../dom.js";
import { bar, card, funnelOf, link, progressBar, state } from "../parts.js";
import { renew } from "../renew.js";
import { count, duration, many, rate, shortName } from "../words.js";
import { declare } from "./declaring.js";
import { welcome } from "./welcome.js";
import { shortTitle } from "./workload.js";

export async function view(place) {
  const cards = h("div.cards");
  const calls = h("div");
  const make = place.may("submit") && h("div.acts", await waysToBegin(place), h("button.primary", { type: "button", onclick: () => declare() }, "New project"));
  place.live(refresh, { every: 5 }); // speed and what is left change also while nothing happens
  return [h("div.head", h("h1", "Projects"), make), cards, calls];

  async function refresh() {
    const [projects, status, batches] = await Promise.all([
      get("v1/projects", {}, place.signal),
      get("v1/status", {}, place.signal),
      get("v1/batches", { limit: 10 }, place.signal),
    ]);
    renew(cards, projects.map(summary));
    renew(calls, [isEmpty(projects, status) ? welcome(place) : null, callsCard(status, batches)]);
  }
}

/** A link for each workload that is installed and can be used. */
async function waysToBegin(place) {
  const found = await get("v1/workloads", {}, place.signal);
  return found.map((each) => (each.problem ? h("span.quiet", { title: each.problem }, `${each.name} cannot be used`) : h("a.button", { href: `#/workloads/${each.name}` }, `${shortTitle(each)}…`)));
}

const isEmpty = (projects, status) => !projects.length && !Object.values(status.counts).some(Boolean);

export const stateOf = (project) => (project.is_paused ? "paused" : project.open ? "runs" : "idle");
export const doneOf = (project) => project.succeeded + project.failed + project.cancelled;

function summary(project) {
  const done = doneOf(project);
  const total = project.open + done;
  const running = project.stages.reduce((sum, stage) => sum + (stage.counts.leased ?? 0), 0);
  return h(
    "section.card", { "data-key": project.name },
    h("div.head", h("h2", link.project(project.name)), state(stateOf(project))),
    progressBar({ done, total, running, failed: project.failed, cancelled: project.cancelled }),
    h("p", total ? `${count(done)} of ${many(total, "job")}` : "no jobs yet", project.failed ? [", ", h("a", { href: `#/failures?project=${encodeURIComponent(project.name)}` }, `${count(project.failed)} failed`)] : ""),
    h("p.quiet", [rate(project.rate) && `${rate(project.rate)} tasks`, project.eta ? `done in ${duration(project.eta)}` : ""].filter(Boolean).join(", ") || " "),
    h("ul.stagelist", project.stages.map(stageLine)),
    project.warning && h("p.warning", project.warning),
  );
}

function stageLine(stage) {
  const { queued, running, done, failed, cancelled } = funnelOf(stage.counts);
  const said = [[queued, "queued"], [running, "running"], [done, "done"], [failed, "failed"]].filter(([n]) => n).map(([n, word]) => `${count(n)} ${word}`).join(", ");
  return h("li", h("span", stage.title || stage.name), bar([["succeeded", done], ["failed", failed], ["cancelled", cancelled], ["leased", running], ["queued", queued]], said || "nothing yet"), h("span.quiet", said));
}

function callsCard(status, batches) {
  const open = batches.filter((batch) => batch.state === "open");
  const said = Object.entries(status.counts).filter(([, n]) => n).map(([name, n]) => `${count(n)} ${name === "leased" ? "running" : name}`);
  if (!said.length && !open.length) return null;
  return card(
    "All tasks of this engine",
    h("p", said.join(", ") || "none", ". ", h("a", { href: "#/jobs" }, "Jobs")),
    open.map((batch) =>
      h("div", h("strong", shortName(batch.name)), ` · ${count(batch.succeeded + batch.failed + batch.cancelled)} of ${many(batch.count, "item")}`, batch.rate ? ` · ${rate(batch.rate)}` : "",
        progressBar({ done: batch.succeeded + batch.failed + batch.cancelled, total: batch.count, failed: batch.failed, cancelled: batch.cancelled, running: batch.running }),
        batch.warning && h("p.warning", batch.warning)),
    ),
  );
}
