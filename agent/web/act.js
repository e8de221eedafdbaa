// Changing things: one press, one request, its error beside it.

import { el } from "./dom.js";
import { session, show } from "./session.js";

/** A line for what goes wrong. */
export const errorLine = () => el("p", { class: "error", role: "alert" });

/**
 * Do what a button stands for: signed in, and once at a time.
 *
 * @param {HTMLButtonElement | HTMLFieldSetElement} button Or what has several controls for it.
 * @param {Element} line Says what went wrong.
 * @param {() => Promise<unknown>} work
 * @param {boolean} [reading] Anybody may.
 * @returns {Promise<boolean>} Whether it was done.
 */
export async function act(button, line, work, reading) {
  if (button.disabled || !(reading || (await session.toChange()))) return false;
  const focused = /** @type {HTMLElement | null} */ (document.activeElement);
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
    if (button.contains(focused) && [focused, document.body].includes(/** @type {HTMLElement} */ (document.activeElement))) focused?.focus();
  }
}

/**
 * A dialog with a form. It stays open, with all that was typed, until the work is done.
 *
 * @param {string} title
 * @param {(Node | string)[]} parts
 * @param {string} word Of the button that does it.
 * @param {() => Promise<unknown>} work
 * @param {boolean} [stays] It is done again and again, and at once.
 */
export async function modal(title, parts, word, work, stays) {
  if (!(await session.toChange())) return;
  const line = errorLine();
  line.id = "modal-error";
  const button = el("button", { class: "main" }, word);
  // A key that is held down presses nothing in a dialog that it opened.
  const held = (/** @type {KeyboardEvent} */ event) => event.repeat && event.key === "Enter" && event.preventDefault();
  const leave = () => (stays || !button.disabled) && box.close();
  const box = el("dialog", { "aria-label": title, onclose: () => box.remove(), onkeydown: held });
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (!stays) box.setAttribute("closedby", "none"); // what is under way is seen to its end
    if ((await act(button, line, work)) && !stays) box.close();
    box.removeAttribute("closedby");
  };
  box.append(el("form", { onsubmit: submit }, el("h2", {}, title), parts, line, el("div", { class: "acts" }, button, el("button", { type: "button", onclick: leave }, stays ? "Close" : "Cancel"))));
  document.body.append(box);
  box.showModal();
  if (stays) button.click();
}

/**
 * A labelled field of such a form.
 *
 * @param {string} label
 * @param {HTMLInputElement | HTMLSelectElement} field
 */
export function field(label, field) {
  field.id = `field-${label.split(/\W/)[0]}`;
  field.setAttribute("aria-describedby", "modal-error");
  return el("div", { class: "field" }, el("div", { class: "over" }, el("label", { for: field.id }, label)), field);
}
