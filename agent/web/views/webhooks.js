import { el, put } from "../dom.js";

export const title = "Webhooks";

/**
 * @param {HTMLElement} root
 * @param {import("../main.js").Route} route
 * @returns {import("../main.js").View}
 */
export function open(root, route) {
  put(root, el("h1", {}, title));
  return { update() {}, close() {} };
}
