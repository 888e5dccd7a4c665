// The Jupyter kernels that this engine runs: whose they are, and what they do.

import { get } from "../access.js";
import { h } from "../dom.js";
import { button, firstSteps, state, table } from "../parts.js";
import { renew } from "../renew.js";
import { ago, count, moment } from "../words.js";
import { addressed } from "./welcome.js";

export async function view(place) {
  const found = h("div");
  const columns = [
    ["Kernel", (kernel) => [h("div", kernel.name), h("code", { title: kernel.id }, kernel.id.slice(0, 8))], "", (kernel) => kernel.name],
    ["Whose", (kernel) => h("bdi", kernel.whose), "", (kernel) => kernel.whose],
    ["Document", (kernel) => (kernel.documents.length ? kernel.documents.map((path) => h("div", h("bdi", path))) : "none"), "", (kernel) => kernel.documents[0] ?? ""],
    ["Language", (kernel) => kernel.language],
    ["State", (kernel) => state(kernel.state), "", (kernel) => kernel.state],
    ["Runs", runs],
    ["Since", (kernel) => h("span", { title: moment(kernel.started) }, ago(kernel.started)), "", (kernel) => -kernel.started],
    ["Front ends", (kernel) => count(kernel.connections), "number", (kernel) => kernel.connections],
    ["Last heard", (kernel) => ago(kernel.last_activity)],
    ["", acts],
  ];
  const now = place.live(refresh, { concerns: (event) => event.kind.startsWith("kernel"), every: 2 }); // what they are at is no event
  return [h("h1", "Kernels"), found];

  async function refresh() {
    try {
      const kernels = await get("api/running-kernels", {}, place.signal);
      renew(found, kernels.length ? [h("section.card.stacked", table(columns, kernels, { caption: "Kernels", key: (kernel) => kernel.id }))] : [howTheyCome()]);
    } catch (error) {
      if (error.status !== 404) throw error;
      renew(found, [firstSteps("This engine runs no kernels.", h("p", h("code", "dcengine serve"), " does, for VS Code, PyCharm and JupyterLab."))]);
    }
  }

  function acts(kernel) {
    if (!kernel.may_use) return null;
    const path = `api/kernels/${encodeURIComponent(kernel.id)}`;
    const ask = `Shut down ${nameOf(kernel)}? What its cells have made, and was not saved, is lost.`;
    return h(
      "div.acts",
      button("Interrupt", { path: `${path}/interrupt`, done: `${nameOf(kernel)} was interrupted`, after: now }),
      button("Shut down", { method: "DELETE", path, look: "danger", ask, done: `${nameOf(kernel)} was shut down`, after: now }),
    );
  }
}

const nameOf = (kernel) => `${kernel.name} ${kernel.id.slice(0, 8)}${kernel.documents.length ? ` of ${kernel.documents[0]}` : ""}`;

function runs(kernel) {
  if (kernel.running_since === null) return "";
  return [kernel.running && h("pre.value.code", { tabindex: "0" }, kernel.running), h("div.quiet", `began ${ago(kernel.running_since)}`)];
}

function howTheyCome() {
  return firstSteps("No kernel runs.", "Give this address, with a token, to VS Code as an existing Jupyter server, or to PyCharm as a configured one:", addressed("ADDRESS"));
}
