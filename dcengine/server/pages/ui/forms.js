// Dialogs with forms: what is wrong is said beside the field that it is about.

import { fill, h } from "./dom.js";

/** What is wrong with one `input`. */
export class Wrong extends Error {
  constructor(input, message) {
    super(message);
    this.input = input;
  }
}

/**
 * A dialog with a form. `send(signal)` may refuse by throwing, which is shown and leaves the dialog open; a `Wrong` is
 * shown beside its input. The signal ends with the dialog.
 */
export function openForm(title, content, label, send) {
  const left = new AbortController();
  const trouble = h("p.trouble", { role: "alert" });
  const heading = h("h2", { id: nextId() }, title);
  const close = h("button", { type: "button", onclick: () => dialog.close() }, "Close");
  const go = h("button.primary", label);
  const form = h("form", { novalidate: true, onsubmit: submit }, heading, content, trouble, h("div.acts", close, go));
  const dialog = h("dialog.form", { "aria-labelledby": heading.id }, form);
  dialog.addEventListener("close", () => (left.abort(), dialog.remove()));
  window.addEventListener("hashchange", () => dialog.close(), { signal: left.signal });
  document.body.append(dialog);
  dialog.showModal();
  return { dialog, go, signal: left.signal };

  async function submit(event) {
    event.preventDefault();
    fill(trouble, []);
    form.querySelectorAll("[aria-invalid]").forEach(acquit);
    go.disabled = true;
    try {
      await send(left.signal);
      dialog.close();
    } catch (error) {
      if (left.signal.aborted) return;
      if (error.input) blame(error.input, error.message);
      else fill(trouble, [error.message]);
    } finally {
      go.disabled = false;
    }
  }
}

/** Say beside `input` what is wrong with it. */
export function blame(input, message) {
  acquit(input);
  const said = h("p.trouble.beside", { id: nextId(), role: "alert" }, message);
  input.setAttribute("aria-invalid", "true");
  input.setAttribute("aria-errormessage", said.id);
  (input.closest(".field") ?? input.parentElement).append(said);
  input.focus();
}

/** Nothing is wrong with it any more. */
export function acquit(input) {
  document.getElementById(input.getAttribute("aria-errormessage") ?? "")?.remove();
  input.removeAttribute("aria-invalid");
  input.removeAttribute("aria-errormessage");
}

function nextId() {
  nextId.last = (nextId.last ?? 0) + 1;
  return `form-${nextId.last}`;
}
