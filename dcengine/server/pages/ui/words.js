// Numbers, times and names as people read them.

const NUMBER = new Intl.NumberFormat("en");
const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

export const count = (n) => NUMBER.format(n);
export const many = (n, what) => `${count(n)} ${what}${n === 1 ? "" : "s"}`;

/** A duration in its two largest units: 2 d 3 h, 4 min 5 s, 0.3 s. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "";
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  let left = Math.round(seconds);
  const parts = [];
  for (const [unit, size] of UNITS) {
    const n = Math.floor(left / size);
    if (n || parts.length) parts.push([n, unit]);
    left -= n * size;
  }
  return parts.slice(0, 2).filter(([n]) => n).map(([n, unit]) => `${n} ${unit}`).join(" ");
}

export const ago = (at, now = Date.now() / 1000) => (at ? `${duration(Math.max(0, now - at))} ago` : "");

/** A moment, exact, for tooltips and tables. */
export const moment = (at) => (at ? new Date(at * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" }) : "");

/** A rate in whatever unit makes it readable. */
export function rate(perSecond) {
  if (!perSecond) return "";
  for (const [unit, times] of [["s", 1], ["min", 60], ["h", 3600]]) {
    if (perSecond * times >= 1 || unit === "h") return `${Number((perSecond * times).toPrecision(3))}/${unit}`;
  }
}

export function bytes(n) {
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (n < 1024 || unit === "TiB") return `${unit === "B" ? n : n.toFixed(1)} ${unit}`;
    n /= 1024;
  }
}

/** The last part of a function's name: what people know it by. */
export const shortName = (name) => name.slice(name.lastIndexOf(".") + 1) || name;

export const percent = (share) => `${Math.floor(share * 100)} %`;
