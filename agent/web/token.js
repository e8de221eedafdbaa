// The token of this tab: of a session or the API's own. In sessionStorage alone, gone with the tab.

const KEY = "device-agent.token";
/** Where the browser forbids it: until the page is left. */
let kept = "";
const storage = (() => {
  try {
    return sessionStorage;
  } catch {
    return { getItem: () => kept, setItem: (/** @type {string} */ _, /** @type {string} */ token) => (kept = token), removeItem: () => (kept = "") };
  }
})();
/** Tells of `change`: another token, or none. */
export const tokens = new EventTarget();

/** @returns {string} "" where there is none. */
export function sessionToken() {
  return storage.getItem(KEY) ?? "";
}

/** @param {string} token "" forgets it. */
export function keepToken(token) {
  if (token) storage.setItem(KEY, token);
  else storage.removeItem(KEY);
  tokens.dispatchEvent(new Event("change"));
}

/**
 * The agent knows that token no more; another that came meanwhile stays.
 *
 * @param {string} token
 */
export function tokenEnded(token) {
  if (sessionToken() === token) keepToken("");
}
