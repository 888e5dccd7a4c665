// Who has done how much.

import { get } from "../access.js";
import { h } from "../dom.js";
import { link, progressBar, table } from "../parts.js";
import { renew } from "../renew.js";
import { count } from "../words.js";

export const SPANS = [["day", "24 hours"], ["week", "7 days"], ["month", "30 days"], ["all", "all time"]];
const CALLS = "functions";

export async function view(place) {
  const names = (await get("v1/projects", {}, place.signal)).map((project) => project.name);
  const project = place.query.project ?? "";
  const span = place.query.span ?? "all";
  const found = h("div");
  place.live(refresh, { concerns: (event) => event.credit && (project ? event.project === project : event.project !== CALLS), pause: 3000, every: 60 }); // hours go by
  return [h("h1", "Leaderboard"), choose(), found];

  function choose() {
    const select = (name, options, chosen) => h("select", { name, onchange: () => form.requestSubmit() }, options.map(([value, label]) => h("option", { value, selected: value === chosen }, label)));
    const form = h(
      "form.filters", { onsubmit: (event) => (event.preventDefault(), place.ask(Object.fromEntries(new FormData(form)))) },
      h("label", "Project", select("project", [["", "all"], ...names.map((name) => [name, name]), [CALLS, "calls"]], project)),
      h("label", "Span", select("span", SPANS, span)),
    );
    return form;
  }

  async function refresh() {
    const rows = await get(`v1/leaderboard?project=${encodeURIComponent(project)}`, { span, limit: 500 }, place.signal); // none: all
    renew(found, [h("section.card", table(columns, rows, { caption: "Leaderboard", key: (row) => row.nickname, empty: nobody() }))]);
  }

  function nobody() {
    const where = project === CALLS ? "with calls" : project ? `in ${project}` : "here";
    const when = span === "all" ? "yet" : `in the last ${SPANS.find(([each]) => each === span)?.[1]}`;
    return `Nobody has earned anything ${where} ${when}: credit comes with each task that is accepted.`;
  }
}

const columns = [
  ["", (row) => count(row.rank), "number"],
  ["Contributor", (row) => link.contributor(row.nickname)],
  ["Tasks", (row) => count(row.tasks), "number"],
  ["Share", (row) => [progressBar({ done: Math.round(row.share * 1000), total: 1000 }), `${(row.share * 100).toFixed(1)} %`], "wide brief"],
];
