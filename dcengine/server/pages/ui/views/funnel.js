// The stages of a project as a funnel: as wide as what has come to each, in the colours of what became of it there.

import { button, funnelOf, state } from "../parts.js";
import { h, s } from "../dom.js";
import { renew } from "../renew.js";
import { count } from "../words.js";

const BODY = 30; // of the drawing's own height; the rest leads over to the next stage
const WHOLE = 42;
const LEAST = 1.2; // percent: what is there is seen
const PARTS = [["done", "succeeded", "Done"], ["running", "leased", "Running"], ["queued", "queued", "Queued"], ["failed", "failed", "Failed"], ["cancelled", "cancelled", "Cancelled"]];

/** Draws the stages of `project` into the body of a table; `mayHold` offers to pause each. */
export class Funnel {
  constructor(name, { path, mayHold }) {
    Object.assign(this, { name, path, mayHold });
    this.body = h("tbody");
    this.headings = h("tr");
    this.element = h("div.funnel.scroll", { tabindex: "0", role: "region", "aria-label": "Stages" }, h("table", h("caption.unseen", "Stages"), h("thead", this.headings), this.body));
  }

  show(project) {
    const shares = project.stages.map((stage) => partsOf(stage));
    const most = Math.max(1, ...shares.map((parts) => sum(parts)));
    const hasCancelled = shares.some((parts) => parts.cancelled);
    const numbers = ["queued", "running", "done", "failed", ...(hasCancelled ? ["cancelled"] : [])];
    renew(this.headings, [h("th", { scope: "col" }, "Stage"), h("th.shape", { scope: "col" }, "How far"), numbers.map((part) => h("th.number", { scope: "col" }, titleOf(part))),
      this.mayHold && h("th", { scope: "col" }, h("span.unseen", "Acts"))]);
    renew(this.body, project.stages.map((stage, n) => this.#row(stage, shares[n], { most, next: shares[n + 1], numbers })));
  }

  #row(stage, parts, { most, next, numbers }) {
    const label = PARTS.filter(([part]) => parts[part]).map(([part]) => `${count(parts[part])} ${part}`).join(", ") || "nothing yet";
    return h("tr", { "data-key": stage.name },
      h("th", { scope: "row" }, h("strong", stage.title || stage.name), " ", stage.is_paused && state("paused"), h("div.quiet", stage.kind === "lease" ? "outside workers" : stage.shape === "map" ? "function" : `function, ${stage.shape}s`), stage.tags && h("code.quiet", stage.tags)),
      h("td.shape", drawn(parts, { most, next, label })),
      numbers.map((part) => h("td.number", { class: part, "data-title": titleOf(part) }, this.#number(stage, part, parts[part]))),
      this.mayHold && h("td.act", button(stage.is_paused ? "Run" : "Pause", { path: `${this.path}/${stage.is_paused ? "run" : "pause"}`, query: { stage: stage.name } })));
  }

  #number(stage, part, n) {
    const jobs = { queued: "open", running: "open", failed: "failed", cancelled: "cancelled" }[part];
    if (!n || !jobs) return count(n);
    const query = new URLSearchParams({ project: this.name, stage: stage.name, state: jobs });
    return h("a", { href: `#/jobs?${query}`, "aria-label": `${count(n)} ${part} at ${stage.title || stage.name}` }, count(n));
  }
}

const titleOf = (part) => PARTS.find(([each]) => each === part)[2];
const sum = (parts) => PARTS.reduce((all, [part]) => all + parts[part], 0);

function partsOf(stage) {
  const found = funnelOf(stage.counts);
  return { ...found, done: found.done + (stage.counts.returned ?? 0) };
}

/** One stage's piece, and the slope to the next one. */
function drawn(parts, { most, next, label }) {
  const widthOf = (each) => (sum(each) ? Math.max(LEAST, (100 * sum(each)) / most) : 0.4);
  const width = widthOf(parts);
  const left = (100 - width) / 2;
  const picture = s("svg", { viewBox: `0 0 100 ${WHOLE}`, preserveAspectRatio: "none", role: "img", "aria-label": label });
  picture.append(s("rect", { x: left, width, y: 0, height: BODY, class: "rest" }));
  let from = left;
  for (const [part, look] of PARTS) {
    const share = sum(parts) ? (width * parts[part]) / sum(parts) : 0;
    if (share) picture.append(s("rect", { x: from, width: share, y: 0, height: BODY, class: look }));
    from += share;
  }
  if (next) {
    const below = (100 - widthOf(next)) / 2;
    picture.append(s("polygon", { points: `${left},${BODY} ${100 - left},${BODY} ${100 - below},${WHOLE} ${below},${WHOLE}`, class: "slope" }));
  }
  return picture;
}
