// A workload that is installed, as a form: files are dropped, the rest is filled in, and its project is what comes next.

import { get } from "../access.js";
import { fill, h, say } from "../dom.js";
import { acquit, blame } from "../forms.js";
import { field } from "../parts.js";
import { sendForm } from "../sending.js";
import { bytes, many } from "../words.js";

const FILE_LIMIT = 1 << 30; // as in server/uploads.py

/** A title up to its first mark: the rest is for those who read on. */
export const shortTitle = ({ title, name }) => title.split(/[:.;]/, 1)[0].trim() || name;

export async function view(place) {
  const { name } = place.parameters;
  const found = (await get("v1/workloads", {}, place.signal)).find((each) => each.name === name);
  if (!found) return [h("h1", "There is no such workload"), h("p", `No package that is installed here brings ${name}. `, h("a", { href: "#/" }, "All projects"))];
  if (found.problem) return [h("h1", name), h("p.trouble", found.problem)];
  if (!place.may("submit")) return [h("h1", shortTitle(found)), h("p", "This token may look, and start nothing.")];
  return [h("h1", shortTitle(found)), h("p", found.title), formOf(found, place)];
}

function formOf(workload, place) {
  const rows = workload.fields.map(rowOf);
  const first = rows.filter(({ asked }) => asked.is_needed);
  const rest = rows.filter(({ asked }) => !asked.is_needed);
  const trouble = h("p.trouble", { role: "alert" });
  const said = h("p.quiet", { role: "status" });
  const bar = h("progress", { max: "1", value: 0, hidden: true, "aria-label": "Sent" });
  const go = h("button.primary", "Start");
  const stop = h("button", { type: "button", hidden: true }, "Stop sending");
  const form = h("form.card.asking", { novalidate: true, onsubmit: submit }, first.map(({ element }) => element), h("div.row.wide", rest.map(({ element }) => element)), trouble, bar, said, h("div.acts", go, stop));
  const page = h("div.drop", form);
  const files = rows.find(({ asked }) => asked.kind === "file");
  takeDropped(page, (dropped) => files?.take(dropped), place.signal);
  return page;

  async function submit(event) {
    event.preventDefault();
    fill(trouble, []);
    rows.forEach(({ input }) => acquit(input));
    const missing = rows.find((row) => row.asked.is_needed && !row.values().length);
    if (missing) return blame(missing.input, missing.asked.kind === "file" ? "Choose a file first, or drop it here." : "This is needed.");
    const large = rows.find((row) => row.values().some((each) => each.size > FILE_LIMIT));
    if (large) return blame(large.input, `${bytes(FILE_LIMIT)} are the most that a file may have.`);
    await send();
  }

  async function send() {
    const sending = new AbortController();
    place.signal.addEventListener("abort", () => sending.abort(), { once: true });
    stop.onclick = () => sending.abort();
    const content = new FormData();
    for (const row of rows) for (const each of row.values()) content.append(row.asked.name, each);
    [go.disabled, stop.hidden, bar.hidden] = [true, false, false];
    try {
      const { project } = await sendForm(`v1/workloads/${encodeURIComponent(workload.name)}`, content, { told, signal: sending.signal });
      if (!place.signal.aborted) window.location.hash = `#/projects/${encodeURIComponent(project)}`;
    } catch (error) {
      if (place.signal.aborted) return;
      if (error.needsToken) return void document.dispatchEvent(new CustomEvent("needs-token", { detail: error }));
      if (error.name === "AbortError") return say(said, "Stopped; nothing was started.");
      say(said, "");
      const meant = meantBy(error, rows);
      if (meant) blame(meant.input, error.message);
      else fill(trouble, [error.message]);
    } finally {
      [go.disabled, stop.hidden, bar.hidden] = [false, true, true];
    }
  }

  function told(sent, all) {
    bar.value = all ? sent / all : 0;
    say(said, sent < all ? `${bytes(sent)} of ${bytes(all)} sent` : "The engine looks at it…");
  }
}

/** The row that `error` is about: its first fact is the name of a field or of a file, or tags as they were typed. */
function meantBy(error, rows) {
  const about = String(error.facts?.[0] ?? "");
  return rows.find(({ asked }) => asked.name === about) ?? rows.find((row) => row.values().some((each) => (error.name === "InvalidTags" ? each : each.name) === about));
}

// ---- fields --------------------------------------------------------------------------------

function rowOf(asked) {
  const hint = [asked.description, asked.limits && `${asked.limits[0].toUpperCase()}${asked.limits.slice(1)}.`].filter(Boolean).join(" ");
  const make = { file: fileRow, switch: switchRow, choice: choiceRow }[asked.kind] ?? textRow;
  return { asked, ...make(asked, titleOf(asked), hint) };
}

const titleOf = ({ name }) => name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");
const shownAs = (value) => (value === null || value === undefined ? "" : String(value));

function textRow(asked, title, hint) {
  const isNumber = ["number", "whole number"].includes(asked.kind);
  const fallback = Array.isArray(asked.default) ? asked.default.join("\n") : shownAs(asked.default);
  // No input of the kind "number": a browser hides what was typed where it is none.
  const input = asked.is_many ? h("textarea", { rows: 3, spellcheck: "false" }) : h("input", { autocomplete: "off", spellcheck: "false", inputmode: isNumber ? "decimal" : null, placeholder: fallback });
  if (asked.is_many) input.placeholder = fallback;
  const element = field(title, input, asked.is_many ? `${hint} One in a line.` : hint);
  input.addEventListener("input", () => acquit(input));
  return { input, element, values: () => (asked.is_many ? input.value.split("\n") : [input.value]).map((each) => each.trim()).filter(Boolean) };
}

function switchRow(asked, title, hint) {
  if (asked.default === null) return choiceRow({ ...asked, choices: ["true", "false"] }, title, hint);
  const input = h("input", { type: "checkbox", checked: asked.default === true });
  const element = field(title, h("input"), hint);
  const label = h("label.check", input, ` ${title}`);
  element.replaceChildren(label, ...[...element.children].filter((each) => each.matches(".hint")));
  const said = element.querySelector(".hint");
  if (said) input.setAttribute("aria-describedby", said.id);
  return { input, element, values: () => [String(input.checked)] };
}

function choiceRow(asked, title, hint) {
  const none = asked.is_needed || asked.default !== null || asked.is_many ? [] : [h("option", { value: "" }, "")];
  const chosen = [asked.default].flat().map(shownAs);
  const input = h("select", { multiple: asked.is_many }, none, asked.choices.map((each) => h("option", { value: each, selected: chosen.includes(each) }, each)));
  return { input, element: field(title, input, hint), values: () => [...input.selectedOptions].map((each) => each.value).filter(Boolean) };
}

function fileRow(asked, title, hint) {
  const input = h("input", { type: "file", multiple: asked.is_many, accept: asked.suffix || null, onchange: () => take([...input.files]) });
  const seen = h("strong", { role: "status" });
  let files = [];
  const element = field(title, input, `${hint} Drop ${asked.is_many ? "them" : "it"} here, or choose.`);
  element.classList.add("zone");
  input.after(seen);
  return { input, element, take, values: () => files };

  function take(some) {
    files = asked.is_many ? some : some.slice(0, 1);
    input.files = listOf(files);
    acquit(input);
    const size = files.reduce((sum, file) => sum + file.size, 0);
    say(seen, files.length === 1 ? bytes(size) : files.length ? `${many(files.length, "file")}, ${bytes(size)}` : "");
  }
}

function listOf(files) {
  const list = new DataTransfer();
  for (const file of files) list.items.add(file);
  return list.files;
}

/** Have files taken that are dropped anywhere on the page, which else the browser would open; `element` shows it. */
function takeDropped(element, take, signal) {
  const shade = (isOver) => element.classList.toggle("over", isOver);
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  window.addEventListener("dragover", (event) => holdsFiles(event) && (event.preventDefault(), shade(true)), { signal });
  window.addEventListener("dragleave", (event) => event.relatedTarget || shade(false), { signal });
  window.addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    shade(false);
    if (event.dataTransfer.files.length) take([...event.dataTransfer.files]);
  }, { signal });
}
