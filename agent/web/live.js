// What the agent tells as it happens, for this tab. The views read it and listen to it.

import { ANSWER, Stream } from "./stream.js"; // here, too: an agent that goes away just then is no reason to be without
import { sessionToken, tokens } from "./token.js";

/** Milliseconds in which the worker says something to a tab that joins it, whatever the agent does. */
const SILENT = 2 * ANSWER;

/**
 * Tells of:
 * - `standing`: the connection is another one now, see `standing`;
 * - `devices`: rows changed; its `detail` has `all` (whatever was known is void) and the `udids`;
 * - `silences`;
 * - `transitions`: its `detail` is the list of those that were stored just now;
 * - `missed`: some transitions are stored no more; its `detail` says why.
 */
class Live extends EventTarget {
  constructor() {
    super();
    /** @type {Map<string, Api.Device>} By UDID. */
    this.devices = new Map();
    /** @type {Api.Silence[]} */
    this.silences = [];
    /** @type {import("./stream.js").Standing} */
    this.standing = "connecting";
    /** The agent's words about that, if it had any. */
    this.why = "";
    /** @type {(message: {token?: string, leave?: boolean}) => void} */
    this.send = () => {};
  }

  /** Begin to follow. */
  async start() {
    const join = () => this.send({ token: sessionToken() });
    this.send = this.wire(join, `device-agent ${await edition()}`);
    tokens.addEventListener("change", join);
    addEventListener("pagehide", () => this.send({ leave: true }));
    addEventListener("pageshow", (event) => event.persisted && join());
    // What is told to a tab that sleeps would be kept for it, for as long as it does.
    document.addEventListener("freeze", () => {
      this.send({ leave: true });
      this.take({ standing: "connecting" });
    });
    document.addEventListener("resume", join);
    join();
  }

  /**
   * @param {() => void} join Done again where the worker does not come.
   * @param {string} name
   */
  wire(join, name) {
    const take = (/** @type {any} */ message) => this.take(message);
    try {
      const worker = new SharedWorker(/** @type {string} */ (script("stream_worker.js")), { type: "module", name });
      const { port } = worker;
      let silent = 0;
      const goOn = () => { // a worker that ends just then takes a tab in and says nothing
        clearTimeout(silent);
        port.onmessage = null;
        port.postMessage({ leave: true });
        this.send = alone(take);
        join();
      };
      port.onmessage = ({ data }) => {
        clearTimeout(silent);
        take(data);
      };
      worker.addEventListener("error", goOn, { once: true });
      return (/** @type {{leave?: boolean}} */ message) => {
        clearTimeout(silent);
        if (!message.leave) silent = setTimeout(goOn, SILENT);
        port.postMessage(message);
      };
    } catch {
      return alone(take); // browsers without, and settings that forbid them
    }
  }

  /** @param {{news?: import("./stream.js").News, standing?: import("./stream.js").Standing, why?: string}} message */
  take({ news, standing, why = "" }) {
    if (standing) {
      [this.standing, this.why] = [standing, why];
      this.dispatchEvent(new Event("standing"));
    }
    if (!news) return;
    if (news.all) this.devices.clear();
    for (const row of news.rows) this.devices.set(row.udid, row);
    for (const udid of news.removed) this.devices.delete(udid);
    if (news.silences) {
      this.silences = news.silences;
      this.dispatchEvent(new Event("silences"));
    }
    if (news.all || news.rows.length || news.removed.length) {
      const udids = new Set([...news.rows.map((row) => row.udid), ...news.removed]);
      this.dispatchEvent(new CustomEvent("devices", { detail: { all: news.all, udids } }));
    }
    if (news.transitions.length) {
      this.dispatchEvent(new CustomEvent("transitions", { detail: news.transitions }));
    }
    if (news.reset) this.dispatchEvent(new CustomEvent("missed", { detail: news.reset }));
  }
}

/**
 * A stream of this tab's own, where the browser shares no workers.
 *
 * @param {(message: {news?: any, standing?: any, why?: string}) => void} take
 */
function alone(take) {
  const stream = new Stream(new URL("./", location.href).href, (news) => take({ news }), (standing, why) => take({ standing, why }));
  return (/** @type {{token?: string, leave?: boolean}} */ { token = "", leave }) => (leave ? stream.leave() : stream.follow(token));
}

/**
 * What the worker's scripts are by now. It is in the worker's name: a page that was loaded after an
 * upgrade shares none with the tabs from before it.
 */
async function edition() {
  try {
    const ask = { method: "HEAD", cache: /** @type {const} */ ("no-store"), signal: AbortSignal.timeout(ANSWER) };
    const answers = await Promise.all(["stream_worker.js", "stream.js"].map((name) => fetch(new URL(name, import.meta.url), ask)));
    return answers.map((answer) => answer.headers.get("ETag")).join(" ");
  } catch {
    return ""; // it is away just then, and so would be the worker
  }
}

/**
 * The address of a script beside this one, as browsers with trusted types want it.
 *
 * @param {string} name
 * @returns {unknown}
 */
function script(name) {
  const address = new URL(name, import.meta.url).href;
  const types = /** @type {any} */ (globalThis).trustedTypes;
  if (!types) return address;
  return types.createPolicy("device-agent", { createScriptURL: () => address }).createScriptURL("");
}

export const live = new Live();
