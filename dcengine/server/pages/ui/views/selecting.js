// Choosing several jobs of a list, by pointer or keyboard, and what can be done with all of them at once.

import { act } from "../access.js";
import { h, say } from "../dom.js";
import { complain, note } from "../notes.js";
import { confirmed, field } from "../parts.js";
import { Wrong, openForm } from "../forms.js";
import { many } from "../words.js";

const AT_ONCE = 6; // jobs that are cancelled side by side

/** The chosen ones of the jobs whose boxes stand in `body`; `done()` after something was done with them. */
export class Selection {
  #chosen = new Set();
  #jobs = new Map();
  #last = null; // the box that was pressed last, from which Shift goes on

  constructor(body, { done }) {
    Object.assign(this, { body, done });
    this.all = h("input", { type: "checkbox", "aria-label": "All of this page", onchange: () => this.#chooseAll(this.all.checked) });
    this.sum = h("strong", { role: "status" });
    this.acts = h("div.acts",
      h("button", { type: "button", onclick: () => this.#cancel() }, "Cancel"),
      h("button", { type: "button", onclick: () => this.#requeue() }, "Requeue"),
      h("button", { type: "button", onclick: () => this.#prioritize() }, "Priority"),
      h("button", { type: "button", onclick: () => this.#chooseAll(false) }, "None"));
    this.element = h("div.selection.card", { hidden: true, role: "group", "aria-label": "Chosen jobs" }, this.sum, this.acts);
    body.addEventListener("keydown", (event) => this.#walk(event));
  }

  /** The box that chooses `job`. */
  box(job) {
    const box = h("input", { type: "checkbox", value: String(job.id), "aria-label": `Choose job ${job.id}`, onclick: (event) => this.#press(event) });
    box.checked = this.#chosen.has(job.id);
    return box;
  }

  /** Learn which jobs are shown; those that are not any more are not chosen either. */
  show(jobs) {
    this.#jobs = new Map(jobs.map((job) => [job.id, job]));
    for (const id of this.#chosen) if (!this.#jobs.has(id)) this.#chosen.delete(id);
    this.#draw();
  }

  get #boxes() {
    return [...this.body.querySelectorAll('input[type="checkbox"]')];
  }

  #press(event) {
    const box = event.currentTarget;
    const boxes = this.#boxes;
    const [from, to] = [boxes.indexOf(this.#last), boxes.indexOf(box)].sort((one, other) => one - other);
    const meant = event.shiftKey && from >= 0 ? boxes.slice(from, to + 1) : [box];
    for (const each of meant) this.#choose(Number(each.value), box.checked);
    this.#last = box;
    this.#draw();
  }

  /** Arrows go from box to box; with Shift they choose. */
  #walk(event) {
    const boxes = this.#boxes;
    const at = boxes.indexOf(event.target);
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (at < 0) return;
    if (event.key === "Escape") this.#chooseAll(false);
    if (event.key.toLowerCase() === "a" && (event.ctrlKey || event.metaKey)) this.#chooseAll(true);
    else if (by === undefined) return;
    event.preventDefault();
    const next = boxes[at + (by ?? 0)];
    next?.focus();
    if (!next || !event.shiftKey || by === undefined) return;
    for (const each of [boxes[at], next]) this.#choose(Number(each.value), true);
    this.#last = next;
    this.#draw();
  }

  #choose(id, isChosen) {
    this.#chosen[isChosen ? "add" : "delete"](id);
  }

  #chooseAll(isChosen) {
    for (const id of this.#jobs.keys()) this.#choose(id, isChosen);
    this.#draw();
  }

  #draw() {
    for (const box of this.#boxes) {
      box.checked = this.#chosen.has(Number(box.value));
      box.closest("tr").classList.toggle("chosen", box.checked);
    }
    const n = this.#chosen.size;
    this.all.checked = n > 0 && n === this.#jobs.size;
    this.all.indeterminate = n > 0 && n < this.#jobs.size;
    this.element.hidden = n === 0;
    say(this.sum, `${many(n, "job")} chosen`);
    const chosen = [...this.#chosen].map((id) => this.#jobs.get(id));
    const [cancel, requeue, priority] = this.acts.children;
    cancel.disabled = priority.disabled = !chosen.some(isOpen);
    requeue.disabled = !chosen.some(mayGoAgain);
  }

  #those(fit) {
    return [...this.#chosen].filter((id) => fit(this.#jobs.get(id)));
  }

  async #cancel() {
    const ids = this.#those(isOpen);
    if (!(await confirmed(`Cancel ${many(ids.length, "job")}? What runs is stopped.`, `Cancel ${many(ids.length, "job")}`))) return;
    await this.#do(async () => {
      const waiting = [...ids];
      await Promise.all(Array.from({ length: AT_ONCE }, async () => {
        for (let id = waiting.shift(); id !== undefined; id = waiting.shift()) await act("POST", `v1/jobs/${id}/cancel`);
      }));
      return `${many(ids.length, "job")} cancelled`;
    });
  }

  #requeue() {
    return this.#do(async () => {
      const { retried } = await act("POST", "v1/jobs/retry", { json: this.#those(mayGoAgain) });
      return `${many(retried, "job")} queued again`;
    });
  }

  #prioritize() {
    const ids = this.#those(isOpen);
    const input = h("input", { type: "number", value: String(this.#jobs.get(ids[0]).priority), step: "1" });
    openForm(`Priority of ${many(ids.length, "job")}`, [field("Priority", input, "0 is usual; higher runs earlier, below zero later.")], "Set it", async () => {
      if (!input.value) throw new Wrong(input, "A whole number, please.");
      try {
        const { changed } = await act("POST", "v1/jobs/priority", { json: { jobs: ids, priority: Number(input.value) } });
        note(`${many(changed, "job")} changed`);
      } catch (error) {
        throw new Wrong(input, error.message);
      }
      this.done();
    });
  }

  async #do(work) {
    try {
      note(await work());
      this.#chosen.clear();
      this.#draw();
    } catch (error) {
      complain(error);
    }
    this.done();
  }
}

const isOpen = (job) => job?.state === "open";
const mayGoAgain = (job) => ["failed", "cancelled"].includes(job?.state);
