// What the page says in a corner for a while: what was done, or why it was not.

import { h } from "./dom.js";

const SHOWN = 8000; // milliseconds
const MOST = 4; // at once; the oldest goes

/** Say `message`; what is said already is not said again. */
export function note(message, look = "") {
  const notes = document.getElementById("notes");
  const said = [...notes.children].find((each) => each.dataset.says === message);
  const element = said ?? h("div.note", { class: look, "data-says": message }, message);
  if (!said) notes.append(element);
  if (notes.childElementCount > MOST) notes.firstElementChild.remove();
  clearTimeout(element.ends);
  element.ends = setTimeout(() => element.remove(), SHOWN);
}

/**
 * Say why something did not work. That the engine cannot be reached stands in the header already, and for a token that
 * is no good any more another is asked for.
 */
export function complain(error) {
  if (error.name === "AbortError" || error.isUnreachable) return;
  if (error.needsToken) document.dispatchEvent(new CustomEvent("needs-token", { detail: error }));
  else note(error.message, "trouble");
}
