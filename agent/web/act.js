// Changing things: one press, one request, its error beside it.

import { el } from "./dom.js";
import { session, show } from "./session.js";

/**
 * Do what a button stands for, signed in, and once at a time.
 *
 * @param {HTMLButtonElement} button
 * @param {Element} line Says what went wrong.
 * @param {() => Promise<unknown>} work
 * @returns {Promise<boolean>} Whether it was done.
 */
export async function act(button, line, work) {
  if (button.disabled || !(await session.toChange())) return false;
  const focused = document.activeElement === button;
  button.disabled = true;
  show(line, null);
  try {
    await work();
    return true;
  } catch (error) {
    show(line, error);
    return false;
  } finally {
    button.disabled = false;
    if (focused && document.activeElement === document.body) button.focus();
  }
}

/**
 * A dialog with a form. It stays open, with all that was typed, until the work is done.
 *
 * @param {string} title
 * @param {(Node | string)[]} parts
 * @param {string} word Of the button that does it.
 * @param {() => Promise<unknown>} work
 */
export async function modal(title, parts, word, work) {
  if (!(await session.toChange())) return;
  const line = el("p", { class: "error", role: "alert", id: "modal-error" });
  const button = el("button", { type: "submit", class: "main" }, word);
  const cancel = el("button", { type: "button", onclick: () => box.close() }, "Cancel");
  const form = el("form", {}, el("h2", { id: "modal-title" }, title), parts, line, el("div", { class: "acts" }, button, cancel));
  const box = el("dialog", { "aria-labelledby": "modal-title", onclose: () => box.remove() }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (await act(button, line, work)) box.close();
  });
  document.body.append(box);
  box.showModal();
}

/**
 * A labelled field of a form; the form's error is read with it.
 *
 * @param {string} label
 * @param {HTMLInputElement | HTMLSelectElement} field With an id.
 * @returns {HTMLElement}
 */
export function field(label, field) {
  field.setAttribute("aria-describedby", "modal-error");
  return el("div", { class: "field" }, el("label", { for: field.id }, label), field);
}
