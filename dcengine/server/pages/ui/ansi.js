// Text as terminals print it: colours become classes, carriage returns and the cursor's movements do their work.

import { h } from "./dom.js";

const PIECES = /\x1b\[([0-9;:?<=>]*)[ -/]*([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\^_]|[\r\n\b\x07\x1b]|[^\r\n\b\x07\x1b]+/g;
const CUT = /\x1b(?:\[[0-9;:?<=>]*[ -/]*|\][^\x07\x1b]*)?$/; // an instruction of which the end is still to come
const LONGEST_CUT = 2000;
const MOVABLE = 100; // lines at the end that may still be written over
const WIDEST = 100_000; // columns the cursor may be sent to

/** A screen that grows: what is printed is shown in `element`, of which the first child goes when there are `most`. */
export class Screen {
  #lines = []; // the last ones: {element, look, cells: [[letter, style], ...]}
  #row = 0;
  #column = 0;
  #style = PLAIN;
  #rest = "";
  #changed = new Set();

  constructor(element, { most = 5000 } = {}) {
    Object.assign(this, { element, most });
  }

  /** Print `text`, in lines that look as `look` says. */
  write(text, look = "") {
    let whole = this.#rest + text;
    const cut = CUT.exec(whole);
    this.#rest = cut && cut[0].length < LONGEST_CUT ? cut[0] : "";
    if (this.#rest) whole = whole.slice(0, -this.#rest.length);
    if (this.#line && this.#line.look !== look && this.#line.cells.length) this.#newLine();
    for (const [piece, codes, end] of whole.matchAll(PIECES)) {
      if (end !== undefined) this.#obey(codes, end);
      else if (piece === "\n") this.#newLine();
      else if (piece === "\r") this.#column = 0;
      else if (piece === "\b") this.#column = Math.max(0, this.#column - 1);
      else if (piece[0] >= " " || piece[0] === "\t") this.#put(piece, look);
    }
    this.#draw();
  }

  /** Show `element` between the lines. */
  show(element) {
    this.#lines = [];
    this.#row = this.#column = 0;
    this.#append(element);
  }

  clear() {
    this.show(h("div"));
    this.element.replaceChildren();
  }

  get #line() {
    return this.#lines[this.#row];
  }

  #newLine() {
    this.#ensure("");
    this.#row += 1;
    this.#column = 0;
  }

  #ensure(look) {
    while (!this.#line) {
      const line = { element: h("div.line", { class: look }), look, cells: [] };
      this.#lines.push(line);
      this.#append(line.element);
    }
    if (!this.#line.cells.length && look && this.#line.look !== look) {
      this.#line.look = look;
      this.#line.element.className = `line ${look}`;
    }
    if (this.#lines.length > MOVABLE) {
      this.#draw();
      const gone = this.#lines.length - MOVABLE;
      this.#lines.splice(0, gone);
      this.#row -= gone;
    }
  }

  #append(element) {
    this.element.append(element);
    while (this.element.childElementCount > this.most) this.element.firstElementChild.remove();
  }

  #put(text, look) {
    this.#ensure(look);
    const { cells } = this.#line;
    while (cells.length < this.#column) cells.push([" ", PLAIN]);
    for (const letter of text) {
      cells[this.#column] = [letter, this.#style];
      this.#column += 1;
    }
    this.#changed.add(this.#line);
  }

  #obey(codes, end) {
    const n = Math.min(WIDEST, Number.parseInt(codes, 10) || 1);
    const kind = Number.parseInt(codes, 10) || 0;
    if (end === "m") this.#style = after(this.#style, codes);
    else if (end === "A" || end === "F") this.#row = Math.max(0, this.#row - n);
    else if (end === "B" || end === "E") this.#row = Math.min(Math.max(this.#row, this.#lines.length - 1), this.#row + n);
    else if (end === "C") this.#column += n;
    else if (end === "D") this.#column = Math.max(0, this.#column - n);
    else if (end === "G") this.#column = n - 1;
    else if (end === "K" && this.#line) this.#erase(this.#line, kind);
    else if (end === "J" && this.#line) this.#eraseBelow(kind);
    if (end === "E" || end === "F") this.#column = 0;
  }

  #erase(line, kind) {
    if (kind === 0) line.cells.length = Math.min(line.cells.length, this.#column);
    else if (kind === 1) line.cells.fill([" ", PLAIN], 0, this.#column + 1);
    else line.cells.length = 0;
    this.#changed.add(line);
  }

  #eraseBelow(kind) {
    if (kind !== 0) return; // a log keeps what is above
    this.#erase(this.#line, 0);
    for (const line of this.#lines.splice(this.#row + 1)) line.element.remove();
  }

  #draw() {
    for (const { element, cells } of this.#changed) element.replaceChildren(...runsOf(cells));
    this.#changed.clear();
  }
}

/** Elements that show `text` with its colours. */
export function coloured(text) {
  const made = h("div");
  new Screen(made, { most: Infinity }).write(text);
  return [...made.children];
}

function* runsOf(cells) {
  for (let from = 0; from < cells.length; ) {
    const style = cells[from][1];
    let until = from;
    let text = "";
    for (; until < cells.length && cells[until][1] === style; until += 1) text += cells[until][0];
    yield style === PLAIN ? document.createTextNode(text) : span(text, style);
    from = until;
  }
}

// ---- colours ----------------------------------------------------------------------------------

const PLAIN = {};
const OFF = { 22: ["bold", "faint"], 23: ["italic"], 24: ["underline"], 27: ["inverse"], 29: ["strike"], 39: ["front"], 49: ["back"] };
const ON = { 1: "bold", 2: "faint", 3: "italic", 4: "underline", 7: "inverse", 9: "strike", 21: "underline" };

/** The style that holds after the codes between `ESC [` and `m` (ECMA-48, SGR). */
function after(style, codes) {
  let now = { ...style };
  const groups = codes.split(";").map((group) => group.split(":").map((code) => Number(code || 0)));
  for (let n = 0; n < groups.length; n += 1) {
    const [code, ...more] = groups[n];
    if (code === 0) now = {};
    else if (code === 4 && more[0] === 0) delete now.underline;
    else if (ON[code]) now[ON[code]] = true;
    else if (OFF[code]) for (const name of OFF[code]) delete now[name];
    else if (code === 38 || code === 48) {
      const following = more.length ? inColons(more) : groups.slice(n + 1).map(([each]) => each);
      const [colour, used] = extended(following);
      if (colour) now[code === 38 ? "front" : "back"] = colour;
      n += more.length ? 0 : used;
    } else Object.assign(now, ofSixteen(code));
  }
  return Object.keys(now).length ? now : PLAIN;
}

function ofSixteen(code) {
  for (const [first, name, colour] of [[30, "front", 0], [40, "back", 0], [90, "front", 8], [100, "back", 8]]) {
    if (code >= first && code <= first + 7) return { [name]: `c${code - first + colour}` };
  }
  return {};
}

/** With colons there may be a colour space in front of the three parts. */
const inColons = ([kind, ...parts]) => (kind === 2 && parts.length > 3 ? [kind, ...parts.slice(1)] : [kind, ...parts]);

/** The colour that follows 38 or 48, and how many numbers it takes. */
function extended([kind, ...rest]) {
  if (kind === 2) return [`rgb(${[0, 1, 2].map((part) => Math.min(255, rest[part] || 0)).join(", ")})`, 4];
  if (kind !== 5) return [null, 1];
  const n = Math.min(255, rest[0] || 0);
  if (n < 16) return [`c${n}`, 2];
  if (n >= 232) return [`rgb(${Array(3).fill(8 + 10 * (n - 232)).join(", ")})`, 2];
  const step = (part) => (part ? 55 + 40 * part : 0);
  return [`rgb(${[36, 6, 1].map((size) => step(Math.floor((n - 16) / size) % 6)).join(", ")})`, 2];
}

function span(text, style) {
  let [front, back] = style.inverse ? [style.back ?? "ground", style.front ?? "ink"] : [style.front, style.back];
  if (back?.startsWith("rgb") || (back?.startsWith("c") && front?.startsWith("c"))) front = upon(front, back);
  const element = h("span", text);
  for (const name of ["bold", "faint", "italic", "underline", "strike"]) if (style[name]) element.classList.add(name);
  paint(element, "color", "front", front);
  paint(element, "background-color", "back", back);
  return element;
}

// Upon a colour of their own the sixteen are what terminals show, whatever the theme of the page.
const SIXTEEN = ["0,0,0", "205,49,49", "13,188,121", "229,229,16", "36,114,200", "188,63,188", "17,168,205", "229,229,229", "102,102,102", "241,76,76", "35,209,139", "245,245,67", "59,142,234", "214,112,214", "41,184,219", "255,255,255"];

function upon(front, back) {
  if (front?.startsWith("c")) return `rgb(${SIXTEEN[front.slice(1)]})`;
  if (front?.startsWith("rgb")) return front;
  const [red, green, blue] = back.match(/\d+/g).map(Number);
  return 0.3 * red + 0.6 * green + 0.1 * blue > 128 ? "rgb(0, 0, 0)" : "rgb(255, 255, 255)";
}

function paint(element, property, side, colour) {
  if (!colour) return;
  if (colour.startsWith("c")) element.classList.add(`${side}-${colour.slice(1)}`);
  else if (colour.startsWith("rgb")) element.style.setProperty(property, colour);
  else element.style.setProperty(property, `var(--${colour})`);
}
