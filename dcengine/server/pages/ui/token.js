// The question for a token: at the start, and when the one that was shown is no good any more.

import { get, keepToken, token } from "./access.js";
import { fill, h } from "./dom.js";

/**
 * Show the question in `element`, and return its field; `go()` is called once the engine knows the token. `error` says
 * why it is asked.
 */
export function askForToken(element, error, go) {
  const had = token();
  const field = h("input", { type: "password", name: "token", autocomplete: "off", spellcheck: "false", required: true, id: "token", "aria-describedby": "token-hint" });
  const trouble = h("p.trouble", { role: "alert" }, had && error ? error.message : "");
  const open = h("button.primary", "Open");
  const form = h(
    "form.card.narrow",
    { onsubmit: submit },
    h("h1", "A token, please"),
    h("p", had ? "The one that this tab has shown does not open the engine. Another does:" : "This engine shows its work to those who have a token of it."),
    h("div.field", h("label", { for: "token" }, "Token"), field),
    trouble,
    open,
    h("p.hint", { id: "token-hint" }, "On the engine's machine ", h("code", "dcengine status"), " prints an address with one, and ", h("code", "dcengine token create --role view"), " makes one that may only look. The whole address does as well."),
  );
  fill(element, [form]);
  return field;

  async function submit(event) {
    event.preventDefault();
    open.disabled = true;
    fill(trouble, []);
    keepToken(tokenIn(field.value));
    try {
      await get("v1/me");
      go();
    } catch (refusal) {
      fill(trouble, [refusal.isUnreachable ? "The engine does not answer." : refusal.message]);
      field.select();
    } finally {
      open.disabled = false;
    }
  }
}

/** The token in what somebody has pasted: itself, or an address that carries it. */
function tokenIn(text) {
  const [, found] = /[?&#]token=([^&#\s]+)/.exec(text) ?? [];
  return found === undefined ? text : decodeURIComponent(found);
}
