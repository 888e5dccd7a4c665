// What a job prints, as it prints it: text with its colours, pictures, and what is shown anew in place of what was.

import { get } from "../access.js";
import { Screen, coloured } from "../ansi.js";
import { fill, h } from "../dom.js";

const PICTURES = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml"];
const MOST_SHOWN = 5000; // lines and pictures; the oldest go
const PAUSES = { more: 100, quiet: 500, lost: 2000 }; // milliseconds until the next question

/** Shows the transcript at `path` for as long as `signal` lets it; a picture shows the job's own words. */
export function output(path, signal) {
  const element = h("div.said", { tabindex: "0", role: "log", "aria-label": "Output" }, h("p.empty", "Nothing was printed."));
  const screen = new Screen(element, { most: MOST_SHOWN });
  const shown = new Map(); // what may be shown anew, by its name
  let isFirst = true;
  let goOn = () => {};
  follow();
  return { element, goOn: () => goOn() }; // a job that has ended may go on: it was queued again

  async function follow() {
    for (let after = 0; !signal.aborted; ) {
      let pause = PAUSES.lost;
      try {
        const { lines, is_complete: isComplete } = await get(`${path}/transcript`, { after, wait: after ? 25 : 0 }, signal);
        if (lines.length) {
          draw(lines);
          after = lines.at(-1).number;
        }
        if (isComplete) await new Promise((wake) => (goOn = wake));
        pause = lines.length ? PAUSES.more : PAUSES.quiet;
      } catch (error) {
        if (error.status === 404) return;
      }
      await new Promise((wake) => setTimeout(wake, pause));
    }
  }

  function draw(lines) {
    const isAtEnd = element.scrollHeight - element.scrollTop - element.clientHeight < 40;
    if (isFirst) fill(element, []);
    isFirst = false;
    for (const line of lines) show(line);
    if (isAtEnd) element.scrollTop = element.scrollHeight;
  }

  function show({ kind, text }) {
    if (kind === "stdout" || kind === "stderr") return screen.write(text, kind);
    if (kind === "note") return screen.show(h("div.remark", text));
    const said = parsed(text);
    if (said === null) return;
    if (kind === "clear") return said.wait ? null : screen.clear();
    if (kind === "error") return screen.show(h("div.trouble", coloured((said.traceback ?? []).join("\n") || `${said.ename}: ${said.evalue}`)));
    const made = rich(said.data ?? {});
    const id = said.transient?.display_id;
    if (!made) return;
    if (kind === "update" && shown.get(id)?.isConnected) shown.get(id).replaceWith(made);
    else if (kind !== "update") screen.show(made);
    if (id) shown.set(id, made);
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** What there is to be seen of a display: a picture, or its text; never its HTML. */
function rich(data) {
  const media = PICTURES.find((each) => typeof data[each] === "string");
  const words = typeof data["text/plain"] === "string" ? data["text/plain"] : "";
  if (media) return h("div", h("img.picture", { src: addressOf(media, data[media]), alt: words || "a picture that the job has shown" }));
  return words ? h("div", coloured(words)) : null;
}

/** Drawings travel as text. As the source of a picture nothing in them can run. */
function addressOf(media, content) {
  return media === "image/svg+xml" ? `data:${media},${encodeURIComponent(content)}` : `data:${media};base64,${content.replace(/\s/g, "")}`;
}
