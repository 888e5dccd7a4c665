// Elements made in one expression. Texts become text nodes: nothing that anybody has said is ever read as HTML.

/** An element: `h("a.name", {href}, "text", child, [more])`. What is null or false is left out. */
export function h(what, properties = {}, ...children) {
  if (isChild(properties)) [properties, children] = [{}, [properties, ...children]];
  const [tag, ...classes] = what.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  set(element, properties ?? {});
  fill(element, children);
  return element;
}

const isChild = (value) => typeof value !== "object" || value === null || value instanceof Node || Array.isArray(value);

function set(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) hear(element, name.slice(2), value);
    else if (name === "class") element.classList.add(...value.split(" ").filter(Boolean));
    else if (name === "style") for (const [key, each] of Object.entries(value)) element.style.setProperty(key, each);
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
}

/** Have `heed` called with events of `kind`, in place of what was called before. */
function hear(element, kind, heed) {
  const heeded = (element[HEEDED] ??= {});
  if (!(kind in heeded)) element.addEventListener(kind, (event) => heeded[kind]?.(event));
  heeded[kind] = heed;
}

const HEEDED = Symbol("what is called with which events");

/** Have `element` heed what `other` heeds, and nothing else. */
export function heedAs(element, other) {
  for (const kind of Object.keys(element[HEEDED] ?? {})) element[HEEDED][kind] = null;
  for (const [kind, heed] of Object.entries(other[HEEDED] ?? {})) hear(element, kind, heed);
}

/** Put `children` into `element`, in place of what is there. */
export function fill(element, children) {
  element.replaceChildren(...shown(children));
  return element;
}

/** What is to be seen of `children`, in one list. */
export const shown = (children) => [children].flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false);

/** Wait until nothing is being pressed: what is drawn sooner may move it away, and the press then counts for nothing. */
export async function released() {
  if (isPressed) await new Promise((resolve) => RELEASES.forEach((kind) => window.addEventListener(kind, () => setTimeout(resolve), { once: true })));
}

const RELEASES = ["pointerup", "pointercancel"];
let isPressed = false;
window.addEventListener("pointerdown", () => (isPressed = true), true);
for (const kind of RELEASES) window.addEventListener(kind, () => (isPressed = false), true);

/** An SVG element. */
export function s(tag, properties = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(properties)) element.setAttribute(name, value);
  element.append(...children.flat());
  return element;
}

/**
 * Bring the children of `parent` to what `items` say: one element for each, by its key. Those that stay are changed
 * and not made anew, so that focus, selection and what is being read stay where they are.
 */
export function update(parent, items, keyOf, make, change) {
  const there = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let before = null;
  for (const item of items) {
    const key = String(keyOf(item));
    let element = there.get(key);
    if (element) {
      there.delete(key);
      change?.(element, item);
    } else {
      element = make(item);
      element.dataset.key = key;
    }
    const next = before ? before.nextSibling : parent.firstChild;
    if (element !== next) parent.insertBefore(element, next);
    before = element;
  }
  for (const gone of there.values()) gone.remove();
}

/** Change the text of `element` only if it is another. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
