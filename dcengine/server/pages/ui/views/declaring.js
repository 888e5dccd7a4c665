// A form for a new project: its stages in order, each for outside workers or for functions that workers can import.

import { act, get } from "../access.js";
import { h, released, say } from "../dom.js";
import { Wrong, acquit, openForm } from "../forms.js";
import { field } from "../parts.js";

const SHAPES = [["map", "each item by itself"], ["expand", "makes many items of one"], ["gather", "brings the many together again"]];

/** Ask for a project, and go there. */
export function declare() {
  const name = h("input", { name: "name", autocomplete: "off", maxlength: "100" });
  const stages = h("div.stages");
  const more = h("button", { type: "button", onclick: () => add().focus() }, "Another stage");
  const isOpen = h("input", { type: "checkbox", name: "open" });
  openForm("New project", [
    field("Name", name, "No slash and no braces."),
    h("h3", "Stages, in the order in which jobs go through them"),
    stages, more,
    h("p", h("label.check", isOpen, " Open: anybody may do its outside stages, without a token")),
  ], "Make it", send);
  add();

  function add() {
    const made = stage({ move, remove });
    stages.append(made.element);
    number();
    return made.name;
  }

  function rows() {
    return [...stages.children].map((element) => element.stage);
  }

  function move(element, by) {
    const all = [...stages.children];
    const to = all.indexOf(element) + by;
    if (to < 0 || to >= all.length) return;
    if (by < 0) all[to].before(element);
    else all[to].after(element);
    number();
  }

  function remove(element) {
    if (stages.childElementCount === 1) return;
    element.remove();
    number();
    more.focus();
  }

  function number() {
    rows().forEach((row, n, all) => row.isAt(n, all.length));
  }

  async function send() {
    const all = rows();
    if (!name.value.trim()) throw new Wrong(name, "A project needs a name.");
    const unnamed = all.find((row) => !row.name.value.trim());
    if (unnamed) throw new Wrong(unnamed.name, "A stage needs a name.");
    const spec = { name: name.value.trim(), stages: all.map((row) => row.spec()), is_open: isOpen.checked };
    try {
      const made = await act("POST", "v1/described-projects", { json: spec });
      window.location.hash = `#/projects/${encodeURIComponent(made.name)}`;
    } catch (error) {
      throw placed(error, name, all);
    }
  }
}

/** `error` at the input that it is about, where that can be told. */
function placed(error, name, rows) {
  const [what, value] = error.facts ?? [];
  const input = error.name === "InvalidTags" ? rows.find((row) => row.tags.value.trim() === what)?.tags : inputOf(String(what), String(value));
  return input ? new Wrong(input, error.message) : error;

  function inputOf(what, value) {
    if (what === "the project's name") return name;
    if (what === "the stage's name") return rows.findLast((row) => isMeant(row, value))?.name;
    if (what === "retries") return rows.find((row) => row.retries.value === value)?.retries;
    if (what.startsWith("the function of stage")) return rows.find((row) => isMeant(row, what.slice(21).trim()))?.function;
    if (what.includes("stage")) return rows.find((row) => row.name.value && what.includes(row.name.value.trim()))?.name;
    return null;
  }
}

const isMeant = (row, quoted) => quoted.slice(1, -1) === row.name.value.trim();

/** The fields of one stage. */
function stage({ move, remove }) {
  const name = h("input", { autocomplete: "off" });
  const who = h("select", { onchange: choose }, h("option", { value: "lease" }, "outside workers"), h("option", { value: "function" }, "a Dask function"));
  const called = h("input", { placeholder: "package.module:function", autocomplete: "off", spellcheck: "false" });
  const shape = h("select", SHAPES.map(([value, label]) => h("option", { value }, label)));
  const tags = h("input", { placeholder: "gpu & memory>=16GiB", autocomplete: "off", spellcheck: "false", onchange: explain, oninput: () => acquit(tags) });
  const matches = h("p.hint", { role: "status" });
  const retries = h("input", { type: "number", min: "0", max: "1000", value: "0" });
  const forFunction = h("div.row", { hidden: true }, field("Function", called, "Workers import it; module:name."), field("It", shape));
  const legend = h("legend");
  const [up, down, away] = [["Up", -1], ["Down", 1], ["Remove", 0]].map(([label, by]) => h("button.small", { type: "button", onclick: () => (by ? move(element, by) : remove(element)) }, label));
  const tagField = field("Tags that a worker needs", tags);
  tagField.append(matches);
  const element = h("fieldset", legend,
    h("div.row", field("Name", name), field("Done by", who), field("Retries", retries)), forFunction, tagField,
    h("div.acts", up, down, away));
  const row = {
    element, name, tags, retries, function: called,
    isAt(n, all) {
      say(legend, `Stage ${n + 1}`);
      [up.disabled, down.disabled, away.disabled] = [n === 0, n === all - 1, all === 1];
    },
    spec: () => ({
      name: name.value.trim(), kind: who.value, tags: tags.value.trim(), retries: Number(retries.value || 0),
      ...(who.value === "function" && { function: called.value.trim(), shape: shape.value }),
    }),
  };
  element.stage = row;
  return row;

  function choose() {
    forFunction.hidden = who.value === "lease";
    explain();
  }

  /** Say which workers there are for the tags: of the cluster, since outside workers come as they like. */
  async function explain() {
    say(matches, "");
    if (!tags.value.trim()) return;
    try {
      const found = await get("v1/explain", { tags: tags.value });
      await released();
      acquit(tags);
      if (who.value === "function") say(matches, found.sentence);
    } catch (error) {
      await released();
      say(matches, error.message);
    }
  }
}
