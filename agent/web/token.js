// The token of this tab: of a session or the API's own. In sessionStorage alone, gone with the tab.

const KEY = "device-agent.token";
/** Tells of `change`: another token, or none. */
export const tokens = new EventTarget();

/** @returns {string} "" where there is none. */
export function sessionToken() {
  return sessionStorage.getItem(KEY) ?? "";
}

/** @param {string} token "" forgets it. */
export function keepToken(token) {
  if (token) sessionStorage.setItem(KEY, token);
  else sessionStorage.removeItem(KEY);
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
