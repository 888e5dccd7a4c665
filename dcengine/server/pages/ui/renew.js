// Bringing what is shown up to date: what stays the same is not touched, so that focus, scrolling, selections and what
// is unfolded stay where they are.

import { heedAs, shown } from "./dom.js";

const CONTROLS = ["INPUT", "SELECT", "TEXTAREA", "FORM"]; // what somebody may be at
const OWN = { DETAILS: ["open"], H1: ["tabindex"] }; // attributes of whoever reads: what is unfolded, where the focus may go

/**
 * Bring what is in `element` to `children`, which are made anew each time. What carries a `data-key` is found by it
 * wherever it moves; an element that is there already stays itself. Handlers of what stays are the new ones: they look
 * at `event.currentTarget`, not at the element with which they were made.
 */
export function renew(element, children) {
  const keyed = new Map([...element.children].filter((each) => each.dataset.key !== undefined).map((each) => [each.dataset.key, each]));
  let at = element.firstChild;
  for (const child of shown(children)) {
    const wanted = child instanceof Node ? child : document.createTextNode(child);
    const there = wanted.parentNode === element ? wanted : placeOf(wanted, at, keyed);
    const now = there && become(there, wanted) ? there : wanted;
    if (now === at) at = at.nextSibling;
    else element.insertBefore(now, at);
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
  return element;
}

/** What is to become `wanted`, if anything is: what has its key, or what stands at its place and has none. */
function placeOf(wanted, at, keyed) {
  if (wanted.dataset?.key !== undefined) return keyed.get(wanted.dataset.key);
  return at?.dataset?.key === undefined ? at : null;
}

/** Make `element` what `wanted` is; returns false where that is to take its place. */
function become(element, wanted) {
  if (element === wanted) return true;
  if (element.nodeName !== wanted.nodeName) return false;
  if (!(element instanceof Element)) {
    if (element.data !== wanted.data) element.data = wanted.data;
    return true;
  }
  if (CONTROLS.includes(element.nodeName)) return element.isEqualNode(wanted) || element.contains(document.activeElement);
  heedAs(element, wanted);
  dress(element, wanted);
  // Charts are many elements without handlers, mostly as they were.
  if (!(element.nodeName === "svg" && element.isEqualNode(wanted))) renew(element, [...wanted.childNodes]);
  return true;
}

/** Give `element` the attributes of `wanted`. */
function dress(element, wanted) {
  const own = OWN[element.nodeName] ?? [];
  for (const { name } of [...element.attributes]) if (!wanted.hasAttribute(name) && !own.includes(name)) element.removeAttribute(name);
  for (const { name, value } of wanted.attributes) {
    if (own.includes(name) || element.getAttribute(name) === value) continue;
    if (name === "style") element.style.cssText = value; // the policy of this page lets no attribute of that name be set
    else element.setAttribute(name, value);
  }
}
