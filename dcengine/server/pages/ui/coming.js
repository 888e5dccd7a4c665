// What a change of page means beside its content: its title, where the focus and the scrolling are.

const PATIENCE = 3000; // milliseconds in which content may still come that was there when it was left

let settled = { path: null };

/** Keep in the entry of the history how far it is scrolled, so that Back leads there. */
export function rememberScrolling() {
  window.history.scrollRestoration = "manual";
  let timer = null;
  window.addEventListener("scroll", () => {
    clearTimeout(timer);
    timer = setTimeout(keep, 100);
  });
  document.addEventListener("click", () => keep(), { capture: true }); // before a link leads away
}

function keep() {
  if (settled.isComing) return;
  window.history.replaceState({ ...window.history.state, scrolled: window.scrollY }, "");
}

/** Call it when another page is about to be shown; `arrive` then says that it is. */
export function leave(path) {
  const isFirst = settled.path === null;
  const focused = document.activeElement;
  const isSame = path === settled.path;
  settled = {
    path,
    isComing: true,
    name: isSame ? focused?.name || null : null,
    wantsFocus: !isFirst && !isSame,
    scrolled: window.history.state?.scrolled ?? (isSame ? window.scrollY : 0),
    until: performance.now() + PATIENCE,
  };
}

/** Call it whenever something was drawn: the title says what is shown, focus and scrolling find their place. */
export function arrive(main) {
  const heading = main.querySelector("h1");
  if (heading) document.title = [...new Set([...words(heading), "dcengine"])].join(" · ");
  if (settled.wantsFocus && heading) {
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
    settled.wantsFocus = false;
  }
  if (settled.name && document.activeElement === document.body) {
    main.querySelector(`[name="${CSS.escape(settled.name)}"]`)?.focus({ preventScroll: true });
    settled.name = null;
  }
  scroll();
}

function scroll() {
  if (!settled.isComing) return;
  window.scrollTo({ top: settled.scrolled, behavior: "instant" });
  if (Math.abs(window.scrollY - settled.scrolled) < 2 || performance.now() > settled.until) settled.isComing = false;
}

/** Whoever moves by hand is not moved any more. */
export function stayWhereMoved() {
  for (const kind of ["wheel", "touchmove", "keydown"]) window.addEventListener(kind, () => (settled.isComing = false), { passive: true });
}

const words = (heading) => [...heading.childNodes].map((each) => each.textContent.trim()).filter(Boolean);
