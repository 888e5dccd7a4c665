// What happens, as the engine's stream of events says it: read by `fetch`, resumed where it was cut.

import { ask } from "./access.js";

const PAUSES = [500, 1000, 2000, 5000]; // milliseconds before the next try

/** Yields the messages of a stream of server-sent events: {id, data}. */
export async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let message = {};
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const [, name, text] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (line === "") {
        if (message.data !== undefined) yield message;
        message = {};
      } else if (name) message[name] = text;
    }
  }
}

/** Follows the engine for as long as the page is open, and tells everybody who listens. */
export class Stream {
  #listeners = new Set();
  #watchers = new Set();
  #cursor = null;
  #state = "connecting";

  /** Call `hear(events)` with each list of events; returns what ends that. */
  listen(hear) {
    this.#listeners.add(hear);
    return () => this.#listeners.delete(hear);
  }

  /** Call `see(state)` now and whenever it changes: connecting, live, lost, refused. */
  watch(see) {
    this.#watchers.add(see);
    see(this.#state);
    return () => this.#watchers.delete(see);
  }

  get isLost() {
    return this.#state === "lost";
  }

  #become(state) {
    if (state === this.#state) return;
    this.#state = state;
    for (const see of this.#watchers) see(state);
  }

  async follow(signal) {
    for (let failures = 0; !signal.aborted; ) {
      try {
        const headers = { Accept: "text/event-stream" };
        if (this.#cursor !== null) headers["Last-Event-ID"] = this.#cursor;
        const answer = await ask("GET", "v1/events", { headers, signal });
        const wasLost = this.#state === "lost";
        this.#become("live");
        failures = 0;
        if (wasLost) this.#tell([]); // whatever was not said by events may be another now
        for await (const { id, data } of messages(answer.body)) {
          this.#cursor = id;
          this.#tell(JSON.parse(data));
        }
      } catch (error) {
        if (signal.aborted) return;
        if (error.status === 401 || error.status === 403) return this.#become("refused");
        this.#become("lost");
        failures += 1;
      }
      await new Promise((wake) => setTimeout(wake, PAUSES[Math.min(failures, PAUSES.length - 1)]));
    }
  }

  #tell(events) {
    for (const hear of this.#listeners) hear(events);
  }
}
