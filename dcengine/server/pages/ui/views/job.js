// One job: where it is and why, what it says while it runs, and its whole past.

import { get, text } from "../access.js";
import { h, update } from "../dom.js";
import { bar, button, card, link, state } from "../parts.js";
import { renew } from "../renew.js";
import { ago, count, duration, moment, percent, shortName } from "../words.js";
import { output } from "./output.js";
import { Pictures, shown } from "./values.js";

const PARTS_SHOWN = 30;
const ENDED = new Set(["succeeded", "failed", "cancelled", "returned"]);
const WORDS = { retried: "erred", recovered: "was cut off by the engine's end", flagged: "was found to be bad", returned: "counts no more" };

export async function view(place) {
  const id = await idOf(place);
  const path = `v1/jobs/${id}`;
  const head = h("div");
  const past = h("div");
  const first = await get(path, {}, place.signal); // raises for an unknown one, before anything is shown
  const printed = output(path, place.signal);
  const pictures = new Pictures(place.signal);
  const concerns = (event) => event.job === first.id || (event.batch !== undefined && event.batch === first.batch);
  place.live(refresh, { concerns, every: 2 }); // progress is no event
  place.live(tell, { concerns });
  return [head, card("Output", printed.element), card("What happened", past)];

  async function refresh() {
    const job = await get(path, {}, place.signal);
    const why = job.state === "open" && job.task_state !== "leased" ? await text(`${path}/why`, {}, place.signal) : "";
    if (job.state === "open") printed.goOn();
    renew(head, [
      h("div.head", h("h1", title(job), " ", state(job.state === "open" ? job.task_state : job.state)), acts(job)),
      job.progress && progress(job.progress),
      why && h("p.warning", h("strong", "Why it does not run: "), why),
      job.reason && h("p.trouble", job.reason),
      h("dl.facts", facts(job).map(([name, value]) => [h("dt", name), h("dd", value)])),
    ]);
  }

  function acts(job) {
    if (!place.may("submit")) return null;
    if (job.state !== "open") {
      const again = job.batch === null && ["failed", "cancelled"].includes(job.state);
      return again && h("div.acts", button("Requeue", { path: "v1/jobs/retry", json: [job.id], done: "queued again" }));
    }
    const runs = job.task_state === "leased";
    return h(
      "div.acts",
      !runs && job.batch === null && button("Next", { path: "v1/jobs/priority", json: { jobs: [job.id], priority: job.priority + 1 }, done: "it runs before others now" }),
      runs && button("Interrupt", { path: `${path}/interrupt`, done: "interrupted" }),
      button("Cancel", { path: `${path}/cancel`, ask: `Cancel job ${job.id}?${runs ? " Its code gets a moment to stop." : ""}`, done: "cancelled" }),
      runs && button("Kill", { path: `${path}/kill`, look: "danger", ask: `End the process of job ${job.id} at once? What it has not returned is lost.`, done: "killed" }),
    );
  }

  async function tell() {
    const episodes = await get(`${path}/story`, {}, place.signal);
    const made = new Map(await Promise.all(episodes.map(async (each) => [each.task, await episode(each)])));
    update(past, episodes, (each) => each.task, (each) => h("details.episode", { open: true }, made.get(each.task)), (element, each) => renew(element, made.get(each.task)));
  }

  async function episode(entry) {
    const name = first.key ?? `job-${first.id}`;
    return [
      h("summary", h("strong", entry.stage), entry.generation ? ` · generation ${entry.generation}` : "", " ", state(entry.state)),
      h("p.quiet", where(entry)),
      entry.tries.length ? h("ol.tries", entry.tries.map(attempt)) : null,
      entry.flags.map((flag) => h("p.quiet", `${flag.voter} says that the input is bad: ${flag.reason}`)),
      children(entry),
      h("h3", "In"), await shown(entry.input, { pictures, job: first.id, query: { task: entry.task, side: "input" }, name }),
      ENDED.has(entry.state) ? [h("h3", "Out"), await shown(entry.output, { pictures, job: first.id, query: { task: entry.task }, name: `${name}-${entry.stage}`, alt: `what ${entry.stage} made, a picture` })] : null,
    ];
  }

  /** The jobs that a stage made of this one, or waits for. */
  function children(entry) {
    if (!entry.parts.length) return null;
    const links = entry.parts.slice(0, PARTS_SHOWN).map((number, n) => [n ? ", " : "", h("a", { href: `#/jobs/${encodeURIComponent(`${first.project}/${number}`)}` }, count(number))]);
    return h("p", "Its parts: ", links, entry.parts.length > PARTS_SHOWN ? h("span.quiet", ` and ${count(entry.parts.length - PARTS_SHOWN)} more`) : "");
  }
}

/** The id of the job that the address names: by that, or as project/number. */
async function idOf(place) {
  const { id } = place.parameters;
  const at = id.lastIndexOf("/");
  if (at < 0) return encodeURIComponent(id);
  const found = await get(`v1/projects/${encodeURIComponent(id.slice(0, at))}/jobs/${encodeURIComponent(id.slice(at + 1))}`, {}, place.signal);
  return found.id;
}

const took = (seconds) => (seconds < 0.1 ? `${Number((1000 * seconds).toPrecision(2))} ms` : duration(seconds));

/** Where a stage was done, for whom, how long it took, when. */
function where(entry) {
  return [
    entry.worker ? ["on ", link.worker(entry.worker)] : "",
    entry.contributor ? [" for ", entry.contributor] : "",
    entry.seconds !== null && entry.seconds !== undefined ? ` in ${took(entry.seconds)}` : "",
    entry.finished ? h("span", { title: moment(entry.finished) }, `${entry.worker ? ", " : ""}${ago(entry.finished)}`) : "",
  ];
}

function attempt(each) {
  const said = [`try ${each.attempt} ${WORDS[each.what] ?? each.what}`, each.worker ? [" on ", link.worker(each.worker)] : "", each.seconds ? ` after ${took(each.seconds)}` : "", h("span.quiet", { title: moment(each.at) }, `, ${ago(each.at)}`)];
  return h("li", said, each.reason && h("div.trouble", each.reason));
}

const title = (job) => (job.project === "functions" ? `Job ${job.id}: ${shortName(job.name) || "a call"}` : `${job.project}, job ${count(job.number)}`);

function facts(job) {
  return [
    ["Function", job.name && h("code", job.name)],
    ["Project", job.project !== "functions" && [link.project(job.project), job.stage && `, at ${job.stage}`]],
    ["Part of", job.parent && link.job(job.parent)],
    ["Batch", job.batch && `item of batch ${count(job.batch)}`],
    ["Key", job.key],
    ["Worker", job.worker && link.worker(job.worker)],
    ["Tags", job.tags && h("code", job.tags)],
    ["Brought by", [h("a", { href: `#/jobs?submitter=${encodeURIComponent(job.submitter)}` }, job.submitter), `, ${moment(job.created)}`]],
    ["Ended", job.finished && `${moment(job.finished)}, after ${duration(job.finished - job.created)}`],
    ["Tries", job.attempt > 1 && `${count(job.attempt)}, ${count(job.errors)} with errors`],
    ["Priority", job.priority !== 0 && String(job.priority)],
    ["Sent back", job.generation > 0 && `${count(job.generation)} times`],
  ].filter(([, value]) => value);
}

function progress({ done, total, text: words }) {
  const share = total ? done / total : null;
  const label = [share !== null ? percent(share) : "", words].filter(Boolean).join(" · ");
  return h("div", share !== null && bar([["leased", done], ["rest", Math.max(0, total - done)]], label), h("p", label));
}
