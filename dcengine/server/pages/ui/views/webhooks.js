// Who else is told what becomes of a project: a card for administrators. The secret of a new one is shown once.

import { act, get } from "../access.js";
import { h } from "../dom.js";
import { Wrong, openForm } from "../forms.js";
import { button, card, command, field, table } from "../parts.js";
import { renew } from "../renew.js";
import { ago, count, moment } from "../words.js";

const EVENTS = [
  ["job_failed", "a job has failed for good", true],
  ["project_done", "no job is open any more", true],
  ["project_stalled", "tasks are queued, and for long none has run", true],
  ["stage_done", "nothing is left to do at a stage"],
  ["job_retried", "a try has failed, another one follows"],
  ["job_cancelled", "somebody cancelled a job"],
  ["job_succeeded", "a job has come through: a request for each"],
];
const SOON = 5; // seconds between two looks

/** The card of the webhooks of the project called `name`. */
export function webhooks(place, name) {
  const path = `v1/projects/${encodeURIComponent(name)}/webhooks`;
  const found = h("div");
  const secret = h("div", { role: "status" });
  const add = h("button", { type: "button", onclick: ask }, "Add a webhook");
  const columns = [
    ["URL", (hook) => h("bdi", hook.url), "", (hook) => hook.url],
    ["Told of", (hook) => hook.events.map((event) => h("div", h("code", { style: { "white-space": "nowrap" } }, event)))],
    ["State", (hook) => (hook.active ? h("span.state.ready", "active") : [h("span.state.failed", "off"), h("div.quiet", `${hook.reason}. A test that it takes switches it on again.`)])],
    ["Last", last],
    ["", acts],
  ];
  place.live(draw, { concerns: () => false, every: SOON });
  return card("Webhooks", secret, found, h("div.acts", add));

  async function draw() {
    const hooks = await get(path, {}, place.signal);
    const empty = "None: a webhook tells a URL what becomes of this project, in signed messages.";
    renew(found, [table(columns, hooks, { caption: "Webhooks", key: (hook) => hook.id, empty })]);
  }

  function acts(hook) {
    const at = `${path}/${hook.id}`;
    return h(
      "div.acts",
      button("Test", { path: `${at}/test`, done: tested, after: draw }),
      button("Remove", { method: "DELETE", path: at, look: "danger", ask: `Remove the webhook to ${hook.url}? What it was still to be told is dropped.`, after: draw }),
    );
  }

  function tested({ state, status, reason }) {
    if (state === "delivered") return `It has taken the test: it answered ${status}`;
    draw();
    throw new Error(`It has not taken the test: ${reason}`);
  }

  function ask() {
    const url = h("input", { type: "url", name: "url", required: true, maxlength: "2000", placeholder: "https://example.com/hooks/dcengine", autocomplete: "off" });
    const boxes = EVENTS.map(([event, , isUsual]) => h("input", { type: "checkbox", value: event, checked: Boolean(isUsual) }));
    const choices = EVENTS.map(([event, when], n) => h("div", h("label.check", boxes[n], " ", h("code", event), ` ${when}`)));
    openForm("Add a webhook", [field("Where it is told, by POST", url), h("fieldset", h("legend", "Of what"), choices)], "Add", async () => {
      const events = boxes.filter((box) => box.checked).map((box) => box.value);
      if (!events.length) throw new Wrong(boxes[0], "Choose what it is to be told of.");
      const made = await act("POST", path, { json: { url: url.value.trim(), events } }).catch((error) => {
        throw new Wrong(url, error.message);
      });
      const done = h("button", { type: "button", onclick: () => renew(secret, []) }, "I have it");
      renew(secret, [h("p", `This signs the messages of webhook ${made.status.id}, and is shown this once:`), command(made.secret), h("div.acts", done)]);
      draw();
    });
  }

  function last({ last: delivery, pending }) {
    const more = pending ? h("div.quiet", `${count(pending)} still to be told`) : null;
    if (!delivery) return ["nothing yet", more];
    const at = delivery.finished ?? delivery.created;
    const reason = delivery.reason ? h("div.quiet", `${delivery.reason} (${count(delivery.tries)} of 3 tries)`) : null;
    return [h("code", delivery.event), " ", h("span", { title: moment(at) }, `${delivery.state}, ${ago(at)}`), reason, more];
  }
}
