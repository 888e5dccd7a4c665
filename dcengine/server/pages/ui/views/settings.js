// What is set, and where that comes from. It is changed where the engine is started.

import { get } from "../access.js";
import { h } from "../dom.js";
import { card, table } from "../parts.js";
import { ago, moment } from "../words.js";

const DEFAULT = "default";

export async function view(place) {
  const [status, settings] = await Promise.all([get("v1/status", {}, place.signal), get("v1/settings", {}, place.signal)]);
  const chosen = settings.filter((each) => each.source !== DEFAULT);
  const left = settings.filter((each) => each.source === DEFAULT);
  const facts = [
    ["Version", status.version],
    ["File", h("code", status.db)],
    ["Process", String(status.pid)],
    ["Began", `${moment(status.started)}, ${ago(status.started)}`],
    ["Scheduler", h("code", status.scheduler ?? "none")],
    ["You are", `${place.me.role}${place.me.nickname ? `, ${place.me.nickname}` : ""}`],
  ];
  const leave = h("button", { type: "button", onclick: () => document.dispatchEvent(new Event("forget-token")) }, "Forget the token");
  return [
    h("div.head", h("h1", "Settings"), leave),
    card("This engine", h("dl.facts", facts.map(([name, value]) => [h("dt", name), h("dd", value)]))),
    h("p.quiet", "Read only: they are given in dcengine.toml, the environment and the command line when the engine is started."),
    card("Chosen", shown(chosen, settings.length ? "Nothing: all is as it comes." : "This engine is part of a program, which has started it with options of its own.")),
    settings.length > 0 && card("As they come", shown(left, "Nothing.")),
  ];
}

const shown = (settings, empty) => h("div.stacked", table(columns, settings, { caption: "Settings", key: (each) => each.name, empty }));

const columns = [
  ["Setting", (each) => h("code", each.name), "brief", (each) => each.name],
  ["Value", (each) => h("code", each.value)],
  ["From", (each) => each.source, "brief", (each) => each.source],
  ["What it is", (each) => each.help.split("`").map((part, n) => (n % 2 ? h("code", part) : part))],
];
