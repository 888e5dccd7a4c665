// Charts with axes, drawn as SVG: their values are said where the pointer or the keyboard is, and stand in a table.

import { fill, h, s, say } from "./dom.js";
import { renew } from "./renew.js";

const HEIGHT = 100; // of the drawing's own measure; its width has one for each column
const MARKS = 4; // steps of the upright axis, about
const TIMES = 5; // labels below it
const COLOURS = 6; // in style.css

/** Bars on top of each other: `title` says of what, `unit` in what they are counted. */
export class Bars {
  #shown = { series: [], label: String };
  #place = null; // the column that is pointed at

  constructor({ title, unit }) {
    Object.assign(this, { title, unit });
    this.svg = s("svg", { preserveAspectRatio: "none", "aria-hidden": "true" });
    this.area = h("div.area", { tabindex: "0", role: "slider", "aria-label": title, "aria-roledescription": "chart" }, this.svg);
    this.said = h("p.said-value", " ");
    this.scale = h("div.scale", { "aria-hidden": "true" });
    this.times = h("div.times", { "aria-hidden": "true" });
    this.legend = h("ul.legend");
    this.table = h("div");
    this.element = h("figure.chart", h("figcaption", h("strong", title), " ", h("span.quiet", unit)), this.said, this.scale, this.area, this.times, this.legend,
      h("details.table", h("summary", "As a table"), this.table));
    this.area.addEventListener("pointermove", (event) => this.#point(event));
    this.area.addEventListener("pointerleave", () => this.#choose(null));
    this.area.addEventListener("keydown", (event) => this.#step(event));
    this.area.addEventListener("focus", () => this.#choose(this.#place ?? this.#length - 1));
    this.area.addEventListener("blur", () => this.#choose(null));
    this.element.querySelector("details").addEventListener("toggle", () => this.#tell());
  }

  /** Show `series`, [[name, numbers], ...] of one length; `label(n)` says what column n stands for. */
  show(series, label) {
    this.#shown = { series, label };
    const sums = this.#sums();
    const step = niceStep(Math.max(1, ...sums) / MARKS);
    const highest = step * Math.ceil(Math.max(1, ...sums) / step);
    const marks = Array.from({ length: Math.round(highest / step) + 1 }, (_, n) => n * step);
    this.svg.setAttribute("viewBox", `0 0 ${Math.max(1, sums.length)} ${HEIGHT}`);
    this.svg.replaceChildren(...this.#drawn(marks, highest));
    renew(this.scale, [...marks].reverse().map((mark) => h("span", short(mark))));
    renew(this.times, this.#labels());
    renew(this.legend, series.length > 1 ? series.map(([name], n) => h("li", h("span.key", { class: `s${n % COLOURS}` }), name)) : []);
    this.#choose(this.#place);
    this.#tell();
  }

  get #length() {
    return Math.max(0, ...this.#shown.series.map(([, values]) => values.length));
  }

  #sums() {
    return Array.from({ length: this.#length }, (_, n) => this.#shown.series.reduce((sum, [, values]) => sum + (values[n] ?? 0), 0));
  }

  #drawn(marks, highest) {
    const at = (value) => HEIGHT - (HEIGHT * value) / highest;
    const lines = marks.map((mark) => s("line", { x1: 0, x2: this.#length, y1: at(mark), y2: at(mark), class: "mark" }));
    const pieces = [];
    for (let n = 0; n < this.#length; n += 1) {
      let below = 0;
      this.#shown.series.forEach(([, values], place) => {
        const value = values[n] ?? 0;
        if (value > 0) pieces.push(s("rect", { x: n + 0.08, width: 0.84, y: at(below + value), height: (HEIGHT * value) / highest, class: `s${place % COLOURS}` }));
        below += value;
      });
    }
    this.pointer = s("rect", { class: "pointer", x: 0, y: 0, width: 0, height: HEIGHT });
    return [...lines, this.pointer, ...pieces];
  }

  #labels() {
    const n = Math.min(TIMES, this.#length);
    return Array.from({ length: n }, (_, each) => h("span", this.#shown.label(Math.round((each * (this.#length - 1)) / Math.max(1, n - 1)))));
  }

  #point(event) {
    const { left, width } = this.area.getBoundingClientRect();
    this.#choose(Math.floor(((event.clientX - left) / width) * this.#length));
  }

  #step(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined || !this.#length) return;
    event.preventDefault();
    this.#choose((this.#place ?? this.#length - 1) + by);
  }

  #choose(place) {
    this.#place = place === null || !this.#length ? null : Math.min(this.#length - 1, Math.max(0, place));
    this.pointer?.setAttribute("width", this.#place === null ? 0 : 1);
    this.pointer?.setAttribute("x", this.#place ?? 0);
    const text = this.#place === null ? this.#summary() : this.#saidOf(this.#place);
    say(this.said, text);
    for (const [name, value] of [["valuemin", 0], ["valuemax", Math.max(0, this.#length - 1)], ["valuenow", this.#place ?? Math.max(0, this.#length - 1)], ["valuetext", text]]) this.area.setAttribute(`aria-${name}`, value);
  }

  #saidOf(n) {
    const parts = this.#shown.series.filter(([, values]) => values[n]).map(([name, values]) => `${name} ${whole(values[n])}`);
    const sum = this.#sums()[n];
    return `${this.#shown.label(n)}: ${parts.length > 1 ? `${parts.join(", ")}, ${whole(sum)} in all` : whole(sum)}`;
  }

  #summary() {
    const sums = this.#sums();
    const all = sums.reduce((sum, each) => sum + each, 0);
    if (!all) return "none so far";
    const most = Math.max(...sums);
    return `${whole(all)} in all; at most ${whole(most)}, ${this.#shown.label(sums.indexOf(most))}`;
  }

  #tell() {
    if (!this.element.querySelector("details").open) return;
    const { series, label } = this.#shown;
    const rows = this.#sums().map((sum, n) => [n, sum]).filter(([, sum]) => sum).reverse();
    const head = h("tr", h("th", { scope: "col" }, "When"), series.map(([name]) => h("th.number", { scope: "col" }, name)));
    const body = rows.map(([n]) => h("tr", h("th", { scope: "row" }, label(n)), series.map(([, values]) => h("td.number", whole(values[n] ?? 0)))));
    fill(this.table, rows.length ? h("div.scroll", { tabindex: "0", role: "region", "aria-label": `${this.title}, as a table` }, h("table", h("thead", head), h("tbody", body))) : h("p.empty", "Nothing yet."));
  }
}

const whole = (n) => n.toLocaleString("en");
const short = (n) => (n >= 10_000 ? n.toLocaleString("en", { notation: "compact" }) : whole(n));

/** The next of 1, 2, 5, 10, 20, 50 ... that is at least `n`. */
function niceStep(n) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, n)));
  return [1, 2, 5, 10].map((each) => each * power).find((each) => each >= n);
}
