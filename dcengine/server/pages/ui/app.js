// The page: which view the address means, who may see it, and whether the engine is there.

import { forgetToken, get, pageTag, takeToken } from "./access.js";
import { arrive, leave, rememberScrolling, stayWhereMoved } from "./coming.js";
import { fill, h } from "./dom.js";
import { Place } from "./place.js";
import { Stream } from "./stream.js";
import { askForToken } from "./token.js";

const VIEWS = [
  ["", "Projects", () => import("./views/projects.js")],
  ["projects/:name", null, () => import("./views/project.js")],
  ["workloads/:name", null, () => import("./views/workload.js")],
  ["jobs", "Jobs", () => import("./views/jobs.js")],
  ["jobs/:id", null, () => import("./views/job.js")],
  ["workers", "Workers", () => import("./views/workers.js")],
  ["workers/:name", null, () => import("./views/worker.js")],
  ["leaderboard", "Leaderboard", () => import("./views/leaderboard.js")],
  ["contributors/:name", null, () => import("./views/contributor.js")],
  ["failures", "Failures", () => import("./views/failures.js")],
  ["kernels", "Kernels", () => import("./views/kernels.js")],
  ["settings", "Settings", () => import("./views/settings.js")],
  ["mine", "Mine", () => import("./views/mine.js")],
];
const ABOUT_ONESELF = "mine"; // the view of those whose token may not look at what is others'

const STATES = {
  connecting: "connecting…",
  live: "live",
  lost: "offline",
  refused: "no access",
};
const DRAWING = 400; // milliseconds that a page may draw out of sight, so that it comes whole

const main = document.getElementById("main");
const stream = new Stream();
let ended = new AbortController(); // ends what the view that is shown has begun
let isFollowing = false;
let isAsking = false; // for a token
let tag = null; // of the files that this page was made of

async function show() {
  ended.abort();
  ended = new AbortController();
  isAsking = false;
  let isThere = false; // what is drawn before is not to be seen yet
  const { signal } = ended;
  const found = placeIn(window.location.hash);
  leave(found?.path);
  drawNavigation(found);
  if (!found) return say(h("h1", "There is no such page"), h("p", h("a", { href: "#/" }, "All projects")));
  main.setAttribute("aria-busy", "true");
  try {
    const me = await get("v1/me", {}, signal);
    const canLook = !["worker", "join"].includes(me.role);
    if (!canLook && found.path !== ABOUT_ONESELF) return window.location.replace(`#/${ABOUT_ONESELF}`);
    if (!canLook) drawNavigation(found, ([path]) => path === ABOUT_ONESELF);
    const { view } = await found.load();
    if (signal.aborted) return;
    if (canLook) follow();
    else document.getElementById("state").hidden = true;
    const place = new Place({ ...found, me, signal, stream, settle: () => isThere && arrive(main) });
    const content = await view(place);
    await Promise.race([place.drawn, new Promise((wake) => setTimeout(wake, DRAWING))]);
    if (signal.aborted) return;
    say(content);
    isThere = true;
  } catch (error) {
    if (signal.aborted) return;
    if (error.needsToken) return ask(error);
    if (error.isUnreachable) return again(signal);
    refuse(error);
  } finally {
    if (!signal.aborted) main.removeAttribute("aria-busy");
  }
}

function say(...content) {
  fill(main, content);
  arrive(main);
}

function refuse(error) {
  const another = error.status === 403 && h("button", { type: "button", onclick: () => ask(null) }, "Show another token");
  say(h("h1", error.status === 404 ? "Not found" : "That did not work"), h("p.trouble", error.message), another);
}

/** The engine is not there: come back when it is. */
function again(signal) {
  if (!main.childElementCount) say(h("h1", "The engine does not answer"), h("p", "This page goes on by itself once it does."));
  setTimeout(() => signal.aborted || show(), 2000);
}

function ask(error) {
  if (isAsking) return;
  isAsking = true;
  ended.abort();
  main.removeAttribute("aria-busy");
  const field = askForToken(main, error, show);
  arrive(main);
  field.focus();
}

/** The view that an address means, with what stands in it. */
function placeIn(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/");
  for (const [pattern, , load] of VIEWS) {
    const wanted = pattern.split("/");
    if (wanted.length !== parts.length) continue;
    const parameters = {};
    const fits = wanted.every((word, n) => {
      if (!word.startsWith(":")) return word === parts[n];
      parameters[word.slice(1)] = decoded(parts[n]);
      return parts[n] !== "";
    });
    if (fits) return { path, parameters, query: Object.fromEntries(new URLSearchParams(query)), load };
  }
  return null;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // somebody has typed a per cent sign
  }
}

function drawNavigation(place, isOffered = ([, title]) => title) {
  const first = place?.path.split("/")[0];
  const links = VIEWS.filter(isOffered).map(([path, title]) => {
    const isHere = path === first || (path === "" && ["projects", "workloads"].includes(first)) || (path === "leaderboard" && first === "contributors");
    return h("a", { href: `#/${path}`, "aria-current": isHere ? "page" : null }, title);
  });
  const nav = fill(document.getElementById("nav"), links);
  const here = nav.querySelector("[aria-current]");
  if (here) nav.scrollLeft = here.offsetLeft - (nav.clientWidth - here.offsetWidth) / 2; // on a phone not all of it is seen
}

// ---- the engine ----------------------------------------------------------------------------

async function follow() {
  if (isFollowing) return;
  isFollowing = true;
  await stream.follow(new AbortController().signal);
  isFollowing = false; // it was refused
}

function drawState(state) {
  const element = document.getElementById("state");
  element.textContent = STATES[state];
  element.className = `state-${state}`;
  const offline = document.getElementById("offline");
  offline.hidden = state !== "lost";
  offline.textContent = `The engine does not answer since ${new Date().toLocaleTimeString()}. What is shown is of then; the page goes on by itself.`;
  if (state === "refused") get("v1/me").then(() => {}, (error) => error.needsToken && ask(error));
  if (state === "live") renew();
}

/** After an upgrade of the engine this page is of the one before: load it anew, unless somebody is at a form. */
async function renew() {
  const now = await pageTag().catch(() => null);
  if (tag !== null && now !== null && now !== tag && !document.querySelector("dialog[open]")) window.location.reload();
  tag ??= now;
}

// ---- the frame -----------------------------------------------------------------------------

function chooseTheme() {
  const button = document.getElementById("theme");
  const draw = (theme) => {
    document.documentElement.dataset.theme = theme;
    button.textContent = { "": "◐", light: "○", dark: "●" }[theme];
    button.title = { "": "colours: as the system", light: "colours: light", dark: "colours: dark" }[theme];
    button.setAttribute("aria-label", button.title);
  };
  draw(localStorage.getItem("dcengine-theme") ?? "");
  button.addEventListener("click", () => {
    const next = { "": "light", light: "dark", dark: "" }[document.documentElement.dataset.theme];
    localStorage.setItem("dcengine-theme", next);
    draw(next);
  });
}

takeToken();
chooseTheme();
rememberScrolling();
stayWhereMoved();
stream.watch(drawState);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the part behind # is the page's
  main.focus();
});
window.addEventListener("hashchange", () => (takeToken(), show()));
document.addEventListener("needs-token", (event) => ask(event.detail));
document.addEventListener("forget-token", () => {
  forgetToken();
  window.location.reload();
});
show();
