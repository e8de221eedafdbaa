// The agent's public API, asked with the token of this tab if there is one.

import { sessionToken, tokenEnded } from "./token.js";

/** Milliseconds that an answer may take; the doctor takes up to 15 s. */
const LIMIT = 20_000;

/** Why the agent did not do it, in its own words. */
export class ApiError extends Error {
  /**
   * @param {number} status 0: no answer came.
   * @param {string} code For programs.
   * @param {string} message For people.
   * @param {Api.Problem[]} [problems]
   */
  constructor(status, code, message, problems = []) {
    super(message);
    this.status = status;
    this.code = code;
    this.problems = problems;
  }
}

/** Milliseconds to add to this machine's clock to have the agent's. */
let skew = 0;

/**
 * Now, by the agent's clock, in milliseconds since 1970.
 *
 * @returns {number}
 */
export function now() {
  return Date.now() + skew;
}

/**
 * Learn the agent's clock from an answer; its `Date` has whole seconds.
 *
 * @param {string | null} date
 */
export function learnClock(date) {
  const told = date === null ? NaN : Date.parse(date);
  if (Number.isNaN(told)) return;
  const found = told + 500 - Date.now();
  skew = Math.abs(found) < 2000 ? 0 : found;
}

/**
 * Ask the agent; its answer's JSON.
 *
 * @param {string} method
 * @param {string} path Without a slash in front: the page may stand below one.
 * @param {unknown} [body] Sent as JSON.
 * @param {AbortSignal} [signal]
 * @param {number} [most] Milliseconds that its answer may take.
 * @param {string} [token]
 * @returns {Promise<any>}
 * @throws {ApiError}
 */
export async function ask(method, path, body, signal, most = LIMIT, token = sessionToken()) {
  /** @type {Record<string, string>} */
  const headers = { Accept: "application/json" };
  if (!/^[ -~]*$/.test(token)) throw new ApiError(401, "bad_token", "this is not the token of [api] token");
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const limit = AbortSignal.timeout(most);
  let response;
  let answer;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
    learnClock(response.headers.get("Date"));
    answer = await response.json();
  } catch (error) {
    if (signal?.aborted) throw error;
    if (response !== undefined && !limit.aborted) {
      throw new ApiError(response.status, "no_json", `no answer of device-agent came (HTTP ${response.status}): is a proxy in between?`);
    }
    throw new ApiError(0, "gone", "device-agent does not answer. Nothing you typed is lost: try again.");
  }
  if (response.ok) return answer;
  const said = answer?.error ?? {};
  if (response.status === 401 && token) tokenEnded(token);
  throw new ApiError(
    response.status,
    String(said.code ?? "failed"),
    String(said.message ?? `HTTP ${response.status}`),
    said.problems ?? [],
  );
}

/**
 * A query string of what is set, with its question mark; "" where nothing is.
 *
 * @param {Record<string, string | number | null | undefined>} values
 * @returns {string}
 */
export function query(values) {
  const set = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return set.length ? `?${new URLSearchParams(set.map(([key, value]) => [key, String(value)]))}` : "";
}

/** What the address says behind its question mark. @returns {Record<string, string>} */
export const addressed = () => Object.fromEntries(new URLSearchParams(location.hash.split("?")[1]));

/** Have it say that. @param {Record<string, string>} change @param {boolean} [again] Instead of what it said. */
export function readdress(change, again) {
  history[again ? "replaceState" : "pushState"](null, "", (location.hash.split("?")[0] || "#/") + query({ ...addressed(), ...change }));
  dispatchEvent(new Event("hashchange"));
}
