// What a view gets: where it is, who looks, and how to hear of news.

import { complain } from "./notes.js";

export class Place {
  #firsts = [];

  /** `settle()` is called whenever what is shown may be another. */
  constructor({ path, parameters, query, me, signal, stream, settle }) {
    Object.assign(this, { path, parameters, query, me, signal, stream, settle });
  }

  /** Whether the token suffices for what `role` may do. */
  may(role) {
    return this.me.role === "admin" || this.me.role === role;
  }

  /** Resolves when everything has been drawn once, or has failed to. */
  get drawn() {
    return Promise.allSettled(this.#firsts);
  }

  /**
   * Call `refresh` now, and again after events that `concerns` lets through and `every` so many seconds, for what no
   * event tells of: at most once in `pause` milliseconds, one after the other, and not while nobody looks.
   */
  live(refresh, { concerns = () => true, pause = 1000, every = null } = {}) {
    let due = true;
    let running = false;
    let timer = null;
    let last = -Infinity;
    const look = async () => {
      if (!due || running || timer !== null || document.hidden || this.signal.aborted) return;
      const wait = last + pause - performance.now();
      if (wait > 0) return void (timer = setTimeout(() => ((timer = null), look()), wait));
      [due, running, last] = [false, true, performance.now()];
      await this.#try(refresh);
      running = false;
      look();
    };
    const again = () => {
      due = true;
      look();
    };
    const forget = this.stream.listen((events) => (!events.length || events.some(concerns)) && again());
    const clock = every && setInterval(() => this.stream.isLost || again(), every * 1000);
    document.addEventListener("visibilitychange", look, { signal: this.signal });
    this.signal.addEventListener("abort", () => (forget(), clearTimeout(timer), clearInterval(clock)));
    this.#firsts.push(look());
    return again;
  }

  async #try(refresh) {
    try {
      await refresh();
    } catch (error) {
      if (!this.signal.aborted) complain(error);
    }
    if (!this.signal.aborted) this.settle();
  }

  /** The address of this view with another query. */
  #addressOf(query) {
    const words = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
    return `#/${this.path}${words.size ? `?${words}` : ""}`;
  }

  /** Go to the same view with another query. */
  ask(query) {
    window.location.hash = this.#addressOf(query);
  }

  /** Keep `query` in the address, for whoever comes back or hands it on; what is shown stays. */
  keep(query) {
    Object.assign(this.query, query);
    window.history.replaceState(window.history.state, "", this.#addressOf(this.query));
  }
}
