// Values as the engine glances at them.

import { blob } from "../access.js";
import { h } from "../dom.js";
import { complain } from "../notes.js";
import { bytes, count } from "../words.js";

const MOVIE_LIMIT = 64 << 20; // bytes, above which a movie comes only when it is asked for

/** Pictures and movies of jobs, each fetched once while a view is open. */
export class Pictures {
  #addresses = new Map();

  constructor(signal) {
    this.signal = signal;
    signal.addEventListener("abort", () => {
      for (const address of this.#addresses.values()) address.then(URL.revokeObjectURL, () => {});
    });
  }

  /** The address of a picture within this page, or of a movie, which comes as bytes of the type `media`. */
  addressOf(job, query, media = null) {
    const key = JSON.stringify([job, query]);
    if (!this.#addresses.has(key)) {
      const path = `v1/jobs/${job}/${media ? "bytes" : "picture"}`;
      const found = blob(path, query, this.signal).then((content) => URL.createObjectURL(media ? content.slice(0, content.size, media) : content));
      this.#addresses.set(key, found);
      found.catch(() => this.#addresses.delete(key));
    }
    return this.#addresses.get(key);
  }
}

/** Elements that show `glance`, of the `job` and `query` by which its bytes are had; `name` for those who save them. */
export async function shown(glance, { pictures = null, job, query = {}, name = "value", alt = "" } = {}) {
  const saving = job !== undefined && !["nothing", "failure", "object"].includes(glance.kind) && save(job, query, glance, name);
  switch (glance.kind) {
    case "nothing":
      return h("p.quiet", "nothing");
    case "failure":
      return h("div", h("p.trouble", glance.text), glance.traceback && h("details", h("summary", "Traceback"), h("pre.value", { tabindex: "0" }, glance.traceback)));
    case "picture":
      return h("div", pictures && (await picture(pictures.addressOf(job, query), alt || `a picture (${glance.media})`)), h("p.quiet", `${glance.media}, ${bytes(glance.size)} `, saving));
    case "movie":
      return h("div", pictures && (await movie(pictures, job, query, glance, alt || "a movie")), h("p.quiet", `${glance.media}, ${bytes(glance.size)} `, saving));
    case "object":
      return h("p.quiet", `${glance.text}${glance.size ? ` · ${bytes(glance.size)}` : ""} · pickled: shown by its class, opened by Python alone`);
    case "bytes":
      return h("p.quiet", glance.text, " ", saving);
    default:
      return h("div", glance.table ? tableOf(glance.table) : h("pre.value", { tabindex: "0" }, readable(glance), glance.is_cut ? "…" : ""), glance.size > 500 && h("p.quiet", `${bytes(glance.size)} `, saving));
  }
}

async function picture(address, alt) {
  try {
    return h("img.picture", { src: await address, alt });
  } catch {
    return h("p.quiet", "The picture is gone.");
  }
}

/** A movie that plays; a long one is not fetched before somebody asks for it. */
async function movie(pictures, job, query, glance, alt) {
  const element = h("video.picture", { controls: true, playsinline: true, preload: "metadata", "aria-label": alt });
  const play = async () => (element.src = await pictures.addressOf(job, query, glance.media));
  try {
    if (glance.size <= MOVIE_LIMIT) await play();
    else return h("button", { type: "button", onclick: (event) => (event.currentTarget.replaceWith(element), play().catch(complain)) }, `Fetch the movie (${bytes(glance.size)})`);
    return element;
  } catch {
    return h("p.quiet", "The movie is gone.");
  }
}

function tableOf({ columns, rows, count: all }) {
  const head = columns?.length ? h("thead", h("tr", columns.map((each) => h("th", { scope: "col" }, each)))) : null;
  const body = h("tbody", rows.map((row) => h("tr", row.map((cell) => h("td", cell)))));
  return h("div", h("div.value.scroll", { tabindex: "0", role: "region", "aria-label": "Table" }, h("table", head, body)), all > rows.length && h("p.quiet", `the first ${count(rows.length)} of ${count(all)} rows`));
}

function save(job, query, glance, name) {
  const end = { json: ".json", python: ".txt", picture: `.${glance.media?.split("/")[1]}`, movie: `.${glance.media?.split("/")[1]}` }[glance.kind] ?? "";
  if (glance.kind === "python" && !glance.text.startsWith('"')) return null; // only texts are bytes by themselves
  return h("button.small", { type: "button", onclick: download }, "Save");

  async function download() {
    try {
      keep(await blob(`v1/jobs/${job}/bytes`, query), /\.\w+$/.test(name) ? name : `${name}${end}`);
    } catch (error) {
      complain(error);
    }
  }
}

/** Have the browser save `content` as a file called `name`. */
export function keep(content, name) {
  const address = URL.createObjectURL(content);
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** JSON with lines and indents, if all of it is there. */
function readable(glance) {
  if (glance.kind !== "json" || glance.is_cut) return glance.text;
  try {
    const value = JSON.parse(glance.text);
    return typeof value === "string" ? value : JSON.stringify(value, null, 2);
  } catch {
    return glance.text;
  }
}
