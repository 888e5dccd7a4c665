// One project: how far each stage is, how fast it goes, what comes out, and what can be done about it.

import { get } from "../access.js";
import { Bars } from "../chart.js";
import { h, update } from "../dom.js";
import { button, card, link, progressBar, state } from "../parts.js";
import { renew } from "../renew.js";
import { ago, count, duration, many, moment, rate } from "../words.js";
import { addJobs, takeDropped } from "./adding.js";
import { Funnel } from "./funnel.js";
import { doneOf, stateOf } from "./projects.js";
import { Pictures, shown } from "./values.js";
import { Zips } from "./zips.js";
import { webhooks } from "./webhooks.js";

const SPANS = [["day", "24 hours"], ["week", "7 days"], ["month", "30 days"]];
const SAMPLES = 8;

export async function view(place) {
  const { name } = place.parameters;
  const path = `v1/projects/${encodeURIComponent(name)}`;
  const concerns = (event) => event.project === name || event.kind === "deleted";
  await get(path, {}, place.signal); // raises for an unknown one, before anything is shown
  const head = h("div");
  const mayAct = place.may("submit");
  const funnel = new Funnel(name, { path, mayHold: mayAct });
  const zips = new Zips(name, { path, signal: place.signal });
  const plots = throughput(place, path);
  const outcome = comingOut(place, path, name);
  place.live(refresh, { concerns, every: 5 }); // what is left is done sooner or later, also while nothing happens
  place.live(plots.draw, { concerns: (event) => concerns(event) && event.kind === "succeeded", pause: 5000, every: 30 });
  place.live(outcome.draw, { concerns: (event) => concerns(event) && event.kind === "succeeded", pause: 2000 });
  const page = h("div.drop", head, outcome.last, card("Stages", funnel.element, zips.element), card("Throughput", plots.element), card("What comes out", outcome.samples), place.may("admin") && webhooks(place, name));
  if (mayAct) takeDropped(page, (files) => addJobs(name, { files }), place.signal);
  return page;

  async function refresh() {
    const project = await get(path, {}, place.signal);
    renew(head, drawHead(project));
    funnel.show(project);
    await zips.show(project);
  }

  function drawHead(project) {
    const done = doneOf(project);
    const running = project.stages.reduce((sum, stage) => sum + (stage.counts.leased ?? 0), 0);
    const total = done + project.open;
    return [
      h("div.head", h("h1", name, " ", state(stateOf(project))), mayAct && acts(project)),
      progressBar({ done, total, running, failed: project.failed, cancelled: project.cancelled }),
      h("p", total ? `${count(done)} of ${many(total, "job")} ended` : "no jobs yet", speedOf(project), ". ",
        h("a", { href: `#/jobs?project=${encodeURIComponent(name)}` }, "Jobs"), " · ",
        h("a", { href: `#/failures?project=${encodeURIComponent(name)}` }, `Failures (${count(project.failed)})`), " · ",
        h("a", { href: `#/leaderboard?project=${encodeURIComponent(name)}` }, "Leaderboard")),
      project.warning && h("p.warning", project.warning),
      firstStep(project, total),
      project.protocol && h("p.quiet", `Old clients speak ${project.protocol} at p/${name}/.`),
      project.is_open && h("p.quiet", "Open: anybody may take its tasks, without a token."),
    ];
  }

  function acts(project) {
    const isHeld = project.is_paused;
    return h(
      "div.acts",
      button(isHeld ? "Run" : "Pause", { path: `${path}/${isHeld ? "run" : "pause"}`, look: isHeld ? "primary" : "" }),
      h("button", { type: "button", onclick: () => addJobs(name) }, "Add jobs"),
      project.failed > 0 && button("Requeue failed", { path: `${path}/retry`, done: ({ retried }) => `${many(retried, "job")} queued again` }),
      project.open > 0 && button("Cancel open jobs", { path: `${path}/cancel`, ask: `Cancel ${many(project.open, "open job")} of ${name}? What runs is stopped.`, done: ({ cancelled }) => `${many(cancelled, "job")} cancelled` }),
      button("Delete", { method: "DELETE", path, look: "danger", ask: `Delete project ${name}, its ${many(doneOf(project) + project.open, "job")}, their values and all credit? This cannot be undone.`, after: () => (window.location.hash = "#/") }),
    );
  }
}

const speedOf = (project) => [project.rate ? `, ${rate(project.rate)} tasks` : "", project.eta ? h("span", { title: moment(Date.now() / 1000 + project.eta) }, `, done in ${duration(project.eta)}`) : ""];

/** What to do next, where nothing moves because of it. */
function firstStep(project, total) {
  if (!total) return h("p.hint", "It has no jobs yet. ", h("strong", "Add jobs"), " above: by hand, from a file, by a pattern; or drop files here.");
  if (project.is_paused && project.open) return h("p.hint", "Paused: no task is handed out until you press ", h("strong", "Run"), ".");
  const stage = project.stages.find((each) => each.kind === "lease" && each.counts.queued && !each.counts.leased);
  if (!stage || project.rate) return null;
  return h("p.hint", `Outside workers do ${stage.title || stage.name}: `, h("code", `dcengine worker ${new URL(".", document.baseURI).href}?token=TOKEN --project ${project.name} --stage ${stage.name} -- COMMAND`));
}

/** What came through, by stages and by hours. */
function throughput(place, path) {
  let span = "day";
  const tasks = new Bars({ title: "Tasks done in the last hour", unit: "in each half minute" });
  const credit = new Bars({ title: "Credit given", unit: "in each hour" });
  const choice = h("select", { "aria-label": "Credit of the last", onchange: () => ((span = choice.value), draw()) }, SPANS.map(([value, label]) => h("option", { value }, label)));
  credit.element.querySelector("figcaption").append(" ", choice);
  return { element: h("div.charts", tasks.element, credit.element), draw };

  async function draw() {
    const found = await get(`${path}/throughput`, { span }, place.signal);
    const steps = Math.max(0, ...Object.values(found.stages).map((values) => values.length));
    const hours = found.credit.length;
    const clock = (at) => new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    const day = (at) => new Date(at * 1000).toLocaleString([], { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
    tasks.show(Object.entries(found.stages), (n) => clock(found.at - (steps - 1 - n) * 30));
    credit.show([["credit", found.credit]], (n) => (span === "day" ? clock : day)((Math.floor(found.at / 3600) - (hours - 1 - n)) * 3600));
  }
}

/** The newest outputs; a picture among them large. */
function comingOut(place, path, name) {
  const last = h("div");
  const samples = h("div.samples");
  const none = h("p.empty", "Nothing has come through yet: what jobs come to is shown here as soon as the first does.");
  const pictures = new Pictures(place.signal);
  return { last, samples: h("div", none, samples), draw };

  async function draw() {
    const found = await get(`${path}/samples`, { limit: SAMPLES }, place.signal);
    const made = new Map(await Promise.all(found.map(async (sample) => [sample.job, await content(sample)])));
    none.hidden = found.length > 0;
    update(samples, found, (sample) => sample.job, (sample) => h("div.sample", made.get(sample.job)), (element, sample) => renew(element, made.get(sample.job)));
    renew(last, (await lastMovie(found)) ?? (await lastPicture(found)));
  }

  async function content(sample) {
    const alt = `${sample.key ?? `job ${sample.number}`}, a picture`;
    const within = sample.output.kind === "movie" ? null : pictures; // that is above, large
    return [caption(sample), await shown(sample.output, { pictures: within, job: sample.job, name: sample.key ?? `${sample.stage}-${sample.number}`, alt })];
  }

  async function lastMovie(found) {
    const sample = newestOf(found, "movie");
    if (!sample) return null;
    const title = sample.key ?? `${name}.mp4`;
    return [h("section.card.last", { "data-key": `movie-${sample.job}` }, h("h2", "The movie"), await shown(sample.output, { pictures, job: sample.job, name: title, alt: `the movie: ${title}` }))];
  }

  async function lastPicture(found) {
    const newest = newestOf(found, "picture");
    if (!newest) return [];
    const address = await pictures.addressOf(newest.job, {});
    const name = newest.key ?? `job ${count(newest.number)}`;
    return h("figure.card.last", h("a", { href: `#/jobs/${newest.job}` }, h("img.picture", { src: address, alt: `the last picture: ${name}` })), h("figcaption", h("strong", name), newest.finished ? [", ", h("span", { title: moment(newest.finished) }, ago(newest.finished))] : ""));
  }
}

const newestOf = (found, kind) => found.filter((sample) => sample.output.kind === kind).sort((one, other) => (other.finished ?? 0) - (one.finished ?? 0) || other.job - one.job)[0];

const caption = (sample) => h("p", link.job(sample.job, sample.key ?? `job ${count(sample.number)}`), h("span.quiet", ` · ${sample.stage}`));
