// Forms that add jobs to a project: typed in, from a file, by a pattern, or of files that are themselves the items.

import { act, get } from "../access.js";
import { fill, h, say } from "../dom.js";
import { Wrong, acquit, blame, openForm } from "../forms.js";
import { note } from "../notes.js";
import { field } from "../parts.js";
import { FORMATS, itemsOf, typed } from "../reading.js";
import { sendFile, sendItems } from "../sending.js";
import { bytes, count, many } from "../words.js";

const FILE_LIMIT = 1 << 30; // as in server/uploads.py
const AT_ONCE = 3; // files on their way
const PREVIEW = 3; // items of a file that are shown before they are added
const DAY = 86_400;

/** Ask for jobs for the project called `name`; `files` are there already where they were dropped. */
export function addJobs(name, { files = null } = {}) {
  const path = `v1/projects/${encodeURIComponent(name)}`;
  const ways = [byHand(path), fromFile(path), byPattern(path), ofFiles(path, files)];
  const panels = h("div");
  const choice = h("div.choice", { role: "radiogroup", "aria-label": "How" }, ways.map((way, n) => h("label", h("input", { type: "radio", name: "way", value: String(n), checked: n === (files ? 3 : 0), onchange: () => choose(n) }), way.title)));
  let chosen = null;
  const form = openForm(`Add jobs to ${name}`, [choice, panels], "Add", async (signal) => {
    const said = await chosen.send(signal);
    if (said) note(said);
  });
  choose(files ? 3 : 0);

  function choose(n) {
    chosen = ways[n];
    fill(panels, chosen.fields);
    say(form.go, chosen.label);
  }
}

const added = ({ sent, known }) => `${many(sent - known, "job")} added${known ? `; ${count(known)} were there already, by their keys` : ""}`;

function byHand(path) {
  const lines = h("textarea", { rows: 6, spellcheck: "false", placeholder: '{"url": "s3://x/1.tar"}\nor plain text' });
  return {
    title: "By hand", label: "Add",
    fields: [field("Items, one in a line", lines, "A line that is JSON is taken as that, any other as text.")],
    async send(signal) {
      const items = typed(lines.value);
      if (!items.length) throw new Wrong(lines, "There is no item yet.");
      return added(await sendItems(`${path}/items`, items, { signal }));
    },
  };
}

function fromFile(path) {
  const chosen = h("input", { type: "file", onchange: look });
  const format = h("select", { onchange: look }, FORMATS.map(([value, label]) => h("option", { value }, label)));
  const key = h("input", { autocomplete: "off", spellcheck: "false", placeholder: "id" });
  const seen = h("div", { role: "status" });
  const bar = h("progress", { max: "1", value: 0, hidden: true, "aria-label": "Sent" });
  const way = {
    title: "From a file", label: "Add",
    fields: [
      field("File", chosen, "It is read here, and sent in pages: it may be as long as it likes."),
      h("div.row", field("It holds", format), field("Key", key, "A field, or column, that tells items apart: what is there already is not added again.")),
      seen, bar,
    ],
    async send(signal) {
      const [file] = chosen.files;
      if (!file) throw new Wrong(chosen, "Choose a file first.");
      bar.hidden = false;
      const told = ({ sent }) => {
        bar.value = Math.min(1, way.read / Math.max(1, file.size));
        say(seen, `${many(sent, "item")} sent`);
      };
      try {
        const done = await sendItems(`${path}/items`, watched(file), { keyOf: keyOf(), told, stop: () => signal.aborted });
        if (!done.sent) throw new Error("there is no item in it");
        return signal.aborted ? (note(`stopped: ${added(done)}`), null) : added(done);
      } catch (error) {
        throw new Wrong(chosen, `${file.name}: ${error.message}`);
      }
    },
  };
  return way;

  async function* watched(file) {
    way.read = 0;
    for await (const item of itemsOf(file, format.value)) {
      way.read += typeof item === "string" ? item.length + 1 : JSON.stringify(item).length + 1;
      yield item;
    }
  }

  function keyOf() {
    const name = key.value.trim();
    return name && ((item) => {
      const found = item?.[name];
      if (found === undefined || found === null || found === "") throw new Error(`an item has no ${name}: ${JSON.stringify(item).slice(0, 80)}`);
      return String(found);
    });
  }

  /** Show the first items, before any is added. */
  async function look() {
    const [file] = chosen.files;
    acquit(chosen);
    fill(seen, []);
    if (!file) return;
    try {
      const first = [];
      for await (const item of itemsOf(file, format.value)) {
        if (first.push(item) === PREVIEW) break;
      }
      fill(seen, [h("p.quiet", `${file.name}, ${bytes(file.size)}. It begins:`), h("pre.value", first.map((item) => `${JSON.stringify(item).slice(0, 300)}\n`).join(""))]);
    } catch (error) {
      blame(chosen, error.message);
    }
  }
}

function byPattern(path) {
  const pattern = h("input", { autocomplete: "off", spellcheck: "false", placeholder: "https://host/{0001..0100}.jpg", oninput: () => (clearTimeout(timer), (timer = setTimeout(look, 250))) });
  const seen = h("div", { role: "status" });
  let timer = null;
  const way = {
    title: "By a pattern", label: "Add",
    fields: [field("Pattern", pattern, "As in a shell: {1..9}, {001..100..5}, {a,b}; a backslash makes a brace a brace."), seen],
    async send() {
      if (!pattern.value.trim()) throw new Wrong(pattern, "There is no pattern yet.");
      try {
        const { count: sent } = await act("POST", `${path}/items`, { json: { pattern: pattern.value.trim() } });
        return added({ sent, known: 0 });
      } catch (error) {
        throw new Wrong(pattern, error.message);
      }
    },
  };
  return way;

  async function look() {
    acquit(pattern);
    const text = pattern.value.trim();
    if (!text) return void fill(seen, []);
    try {
      const found = await get("v1/patterns", { pattern: text });
      if (text !== pattern.value.trim()) return; // typed on meanwhile
      const rest = found.count > found.first.length ? ["…"] : [];
      fill(seen, [h("p", h("strong", many(found.count, "job")), found.count > found.limit && h("span.trouble", `: more than the ${count(found.limit)} that can be added here`)), h("pre.value", [...found.first, ...rest].join("\n"))]);
    } catch (error) {
      fill(seen, []);
      blame(pattern, error.message);
    }
  }
}

function ofFiles(path, dropped) {
  const chosen = h("input", { type: "file", multiple: true, onchange: () => take([...chosen.files]) });
  const keep = h("select", [[30 * DAY, "30 days"], [7 * DAY, "7 days"], ["", "until they are deleted"]].map(([value, label]) => h("option", { value: String(value) }, label)));
  const list = h("ul.files", { role: "status" });
  const sum = h("p.quiet");
  let files = [];
  take(dropped ?? []);
  return {
    title: "Upload files", label: "Upload",
    fields: [
      field("Files", chosen, `Each becomes a job: its name the key, its bytes the item. ${bytes(FILE_LIMIT)} each, at most.`),
      field("Keep their bytes for", keep, "The jobs stay; who needs a file later than that finds it gone."),
      sum, list,
    ],
    async send(signal) {
      if (!files.length) throw new Wrong(chosen, "Choose files first, or drop them on the page of the project.");
      const large = files.find(({ file }) => file.size > FILE_LIMIT);
      if (large) throw new Wrong(chosen, `${large.file.name} has ${bytes(large.file.size)}; ${bytes(FILE_LIMIT)} are the most that a file may have`);
      const waiting = files.filter((each) => !each.isDone);
      let known = 0;
      await Promise.all(Array.from({ length: AT_ONCE }, async () => {
        for (let each = waiting.shift(); each; each = waiting.shift()) {
          const query = { name: each.name, media: each.file.type, keep: keep.value };
          const { is_known: isKnown } = await sendFile(`${path}/files`, query, each.file, { told: each.told, signal });
          each.done(isKnown);
          known += isKnown ? 1 : 0;
        }
      }));
      return added({ sent: files.length, known });
    },
  };

  function take(some) {
    files = some.map((file) => fileRow(file));
    fill(list, files.map(({ element }) => element));
    const all = some.reduce((size, file) => size + file.size, 0);
    say(sum, some.length ? `${many(some.length, "file")}, ${bytes(all)}` : "");
  }
}

function fileRow(file) {
  const said = h("span.quiet", bytes(file.size));
  const bar = h("progress", { max: String(Math.max(1, file.size)), value: 0, hidden: true, "aria-label": file.name });
  const name = file.path ?? file.name;
  const row = {
    file, name, isDone: false,
    element: h("li", h("span.name", name), " ", said, bar),
    told: (sent) => ([bar.hidden, bar.value] = [false, sent]),
    done(isKnown) {
      row.isDone = true;
      bar.value = Math.max(1, file.size);
      say(said, isKnown ? "there already" : "added");
    },
  };
  return row;
}

/** Have files that are dropped on `element` added to a project; a folder's files come with their paths. */
export function takeDropped(element, add, signal) {
  const shade = (isOver) => element.classList.toggle("over", isOver);
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  element.addEventListener("dragover", (event) => holdsFiles(event) && (event.preventDefault(), shade(true)), { signal });
  element.addEventListener("dragleave", (event) => element.contains(event.relatedTarget) || shade(false), { signal });
  element.addEventListener("drop", async (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    shade(false);
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const plain = [...event.dataTransfer.files];
    const files = entries.length ? (await Promise.all(entries.map((entry) => filesIn(entry)))).flat() : plain;
    if (files.length) add(files);
  }, { signal });
}

async function filesIn(entry, before = "") {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    file.path = before + file.name;
    return [file];
  }
  const reader = entry.createReader();
  const found = [];
  for (let some = null; some === null || some.length; ) {
    some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    for (const each of some) found.push(...(await filesIn(each, `${before}${entry.name}/`)));
  }
  return found;
}
