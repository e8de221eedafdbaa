// One stream for all tabs of this browser: HTTP/1.1 allows six connections to a host.
//
// It is opened with the token of one of them. The agent is asked whether the others may read, too;
// a tab that may not is told so, and nothing else.

import { ANSWER, nothing, Stream } from "./stream.js";

/** Milliseconds between two such questions: a session may have ended meanwhile. */
const AGAIN = 10_000;

/**
 * @typedef {object} Tab
 * @property {string} token
 * @property {boolean} sees It has all that there is, and is told what changes.
 * @property {string} told How the stream stands, as it was told last.
 */

/** @type {Map<MessagePort, Tab>} */
const tabs = new Map();
/** What the agent says of a token, while this connection lasts; of a void one for good. @type {Map<string, boolean>} */
const may = new Map();
const base = new URL("../", self.location.href).href;
const stream = new Stream(
  base,
  (news) => {
    for (const [port, tab] of tabs) {
      if (!sees(tab)) continue;
      tab.sees ||= news.all;
      port.postMessage({ news });
    }
  },
  (standing) => {
    if (standing === "gone") for (const [token, reads] of may) if (reads || !token) may.delete(token);
    if (standing === "refused") {
      may.set(stream.token, false);
      setTimeout(follow); // with another one
    }
    tell();
    if (standing === "live") judge();
  },
);

/** Whether it may be told; what nobody needs a token for is for all. @param {Tab} tab */
function sees({ token }) {
  return stream.by === "" || stream.by === token || may.get(token) === true;
}

/** Tell each tab how the stream stands for it, where that is something else now. */
function tell() {
  for (const [port, tab] of tabs) {
    const refused = !sees(tab) && may.get(tab.token) === false;
    const waits = stream.standing === "refused" || (stream.standing === "live" && !sees(tab));
    const standing = refused ? "refused" : waits ? "connecting" : stream.standing;
    if (standing !== "live") tab.sees = false;
    else if (!tab.sees) {
      tab.sees = true;
      port.postMessage({ news: { ...nothing(), all: true, rows: [...stream.devices.values()], silences: stream.silences } });
    }
    const told = `${standing} ${stream.why}`;
    if (told === tab.told) continue;
    tab.told = told;
    // What may not be read any more is shown no more.
    if (refused) port.postMessage({ news: { ...nothing(), all: true, silences: [] } });
    port.postMessage({ standing, why: stream.why });
  }
}

/** Ask what other tokens than the stream's own are good for; of those that are void, no more. */
function judge() {
  if (stream.standing !== "live" || stream.by === "") return;
  const tokens = new Set([...tabs.values()].map(({ token }) => token));
  for (const token of tokens) if (token !== stream.by && (!token || may.get(token) !== false)) void ask(token);
}

/** @param {string} token */
async function ask(token) {
  const { connection } = stream;
  /** @type {Record<string, string>} */
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  try {
    const response = await fetch(`${base}v1/sessions/current`, { headers, cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(ANSWER) });
    const reads = response.ok ? (await response.json()).may_read : response.status === 401 ? false : undefined;
    if (reads === undefined || connection !== stream.connection) return;
    may.set(token, reads);
    tell();
  } catch {
    // The stream itself finds out what it is, or the next question.
  }
}

/** With the same token while a tab has it, else that which came last, of those that may be good. */
function follow() {
  const good = [...tabs.values()].map(({ token }) => token).filter((token) => token && may.get(token) !== false);
  if (tabs.size === 0) stream.leave();
  else stream.follow(good.includes(stream.token) ? stream.token : (good.pop() ?? ""));
}

/** @type {any} */ (self).onconnect = (/** @type {MessageEvent} */ event) => {
  const [port] = event.ports;
  port.onmessage = ({ data }) => {
    const before = tabs.get(port);
    tabs.delete(port);
    if (!data.leave) {
      tabs.set(port, { sees: false, ...before, told: "", token: data.token }); // each join is answered
      if (before?.token !== data.token && !may.get(data.token)) may.delete(data.token); // it is shown anew
    }
    follow();
    tell();
    judge();
  };
};
setInterval(judge, AGAIN);
