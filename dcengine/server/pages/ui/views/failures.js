// What has failed, those alike together, and all of them queued again at once.

import { get } from "../access.js";
import { h } from "../dom.js";
import { button, link, table } from "../parts.js";
import { renew } from "../renew.js";
import { ago, count, many, moment } from "../words.js";

export async function view(place) {
  const { project } = place.query;
  const found = h("div");
  const tracebacks = new Map(); // by job: what was unfolded
  const columns = [
    ["How often", (group) => count(group.count), "number", (group) => group.count],
    ["Why", why],
    ["Where", (group) => [group.project === "functions" ? "calls" : link.project(group.project), group.stage !== "call" && `, ${group.stage}`], "", (group) => `${group.project} ${group.stage}`],
    ["On", (group) => workers(group.workers)],
    ["Jobs", jobs],
    ["Since", (group) => h("span", { title: moment(group.oldest) }, ago(group.oldest)), "", (group) => -group.oldest],
    ["Last", (group) => h("span", { title: moment(group.newest) }, ago(group.newest)), "", (group) => -group.newest],
    ...(place.may("submit") ? [["", again]] : []),
  ];
  const now = place.live(refresh, { concerns: (event) => ["failed", "reopened"].includes(event.kind), pause: 3000, every: 15 }); // "3 min ago"
  return [h("h1", "Failures", project && h("span.quiet", " of ", h("bdi", project))), project && h("p", h("a", { href: "#/failures" }, "of all projects")), found];

  async function refresh() {
    const { groups, looked_at: lookedAt, is_all: isAll } = await get("v1/failures", { project }, place.signal);
    const keyed = (group) => JSON.stringify([group.project, group.stage, group.pattern]);
    renew(found, [
      h("section.card.stacked", table(columns, groups, { caption: "Failures", key: keyed, empty: "Nothing has failed." })),
      !isAll && h("p.quiet", `The newest ${count(lookedAt)} failed jobs; there are older ones.`),
    ]);
  }

  function why(group) {
    return [h("div.reason", group.pattern || "without a word"), group.reason !== group.pattern && h("div.quiet.reason", group.reason), traceback(group.jobs[0])];
  }

  /** How the newest of a group has failed, asked for when somebody wants to see it. */
  function traceback(job) {
    const text = tracebacks.get(job);
    const unfold = async (event) => {
      if (!event.currentTarget.open || tracebacks.has(job)) return;
      const episodes = await get(`v1/jobs/${job}/story`, {}, place.signal).catch(() => []);
      tracebacks.set(job, episodes.map((episode) => episode.output?.traceback).filter(Boolean).at(-1) ?? "There is none: the code has raised nothing.");
      now();
    };
    return h("details", { ontoggle: unfold }, h("summary", "Traceback of the newest"), h("pre.value", { tabindex: "0" }, text ?? "…"));
  }

  function again({ project: of, stage, pattern, count: n }) {
    const where = of === "functions" ? "" : ` of ${of}, ${stage},`;
    return button("Requeue all", { path: "v1/failures/retry", json: { project: of, stage, pattern }, ask: n > 100 ? `Queue ${many(n, "job")}${where} again?` : null, done: ({ retried }) => `${many(retried, "job")} queued again`, after: now });
  }
}

const workers = (counts) => Object.entries(counts).map(([name, n]) => h("div", link.worker(name), ` ${count(n)}`));

function jobs(group) {
  const query = new URLSearchParams({ project: group.project, stage: group.stage, state: "failed" });
  return [
    group.jobs.slice(0, 5).map((job, n) => [n ? ", " : "", link.job(job)]),
    group.count > 5 && h("div", h("a", { href: `#/jobs?${query}` }, "all that failed there")),
  ];
}
