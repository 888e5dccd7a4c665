// All that a stage has made, saved as one zip: offered where what it makes are bytes or texts.

import { blob, get } from "../access.js";
import { h } from "../dom.js";
import { complain } from "../notes.js";
import { renew } from "../renew.js";
import { funnelOf } from "../parts.js";
import { keep } from "./values.js";

const SAVED = ["bytes", "picture", "movie"];

const isText = ({ kind, text }) => kind === "python" && /^['"]/.test(text); // plain data is shown as Python has it

export class Zips {
  #offers = new Map(); // of each stage, whether there is something to save

  constructor(name, { path, signal }) {
    Object.assign(this, { name, path, signal });
    this.element = h("div.acts.zips");
  }

  async show(project) {
    for (const stage of project.stages) {
      const { counts, name } = stage;
      const isWorthIt = funnelOf(counts).done + (counts.returned ?? 0) > 1; // a single one is saved by itself
      if (isWorthIt && !this.#offers.has(name)) this.#offers.set(name, await this.#isSaved(name));
    }
    renew(this.element, project.stages.filter(({ name }) => this.#offers.get(name)).map((stage) => this.#link(stage)));
  }

  async #isSaved(stage) {
    const [newest] = await get(`${this.path}/samples`, { stage, limit: 1 }, this.signal);
    return newest !== undefined && (SAVED.includes(newest.output.kind) || isText(newest.output));
  }

  #link(stage) {
    const label = `Save all of ${stage.title || stage.name} as zip`;
    return h("button.small", { type: "button", "data-key": stage.name, onclick: (event) => this.#save(event.currentTarget, stage.name) }, label);
  }

  async #save(pressed, stage) {
    pressed.disabled = true;
    try {
      keep(await blob(`${this.path}/stages/${encodeURIComponent(stage)}/outputs.zip`, {}, this.signal), `${this.name}-${stage}.zip`);
    } catch (error) {
      complain(error);
    } finally {
      pressed.disabled = false;
    }
  }
}
