// The agent's events over one connection: read, resumed, and watched for silence.
//
// `fetch` and not `EventSource`: the latter can send no token, and says neither why it was refused
// nor that nothing comes any more. The format is that of the HTML standard, section 9.2.

/** Milliseconds without a byte (the agent sends one every 15 s) after which it is asked. */
const QUIET = 7_000;
/** Milliseconds that its answer may take. With a slow machine 15 s until a dead agent is shown. */
export const ANSWER = 4_000;
/** Milliseconds between two attempts to connect: at first, and at most. */
const RETRY = [500, 4_000];
/** Milliseconds over which changes are gathered: fifty in a second are ten messages. */
const GATHER = 100;

/** Why a connection ended: by the page itself. */
const LEFT = "left";

/**
 * @typedef {object} News What came since the last; `rows` with `all`: all that there are.
 * @property {boolean} all
 * @property {Api.Device[]} rows
 * @property {string[]} removed
 * @property {Omit<Api.DeviceTransition, "callbacks">[]} transitions
 * @property {Api.Silence[] | null} silences null: as they were.
 * @property {string} reset Why some transitions were missed; "": none were.
 * @typedef {"connecting" | "live" | "gone" | "refused" | "held"} Standing `held`: the agent answers, its events do not come.
 */

/** Follows `/v1/events` for as long as it is wanted. */
export class Stream {
  /**
   * @param {string} base Where the page stands, with its slash.
   * @param {(news: News) => void} onNews
   * @param {(standing: Standing, why: string) => void} onStanding `why`: the agent's words, if it had any.
   */
  constructor(base, onNews, onStanding) {
    this.base = base;
    this.onNews = onNews;
    this.onStanding = onStanding;
    /** @type {Standing} */
    this.standing = "connecting";
    this.why = "";
    /** @type {Map<string, Api.Device>} */
    this.devices = new Map();
    /** @type {Api.Silence[]} */
    this.silences = [];
    this.token = "";
    /** The token by which it is told what it is told now; null: nothing comes. @type {string | null} */
    this.by = null;
    this.lastId = "";
    this.wanted = false;
    this.running = false;
    /** @type {AbortController | null} */
    this.connection = null;
    /** @type {News} */
    this.news = nothing();
    this.gathering = 0;
    this.waiting = () => {};
  }

  /**
   * Follow, with that token ("": none); at once if nothing comes yet.
   *
   * @param {string} token
   */
  follow(token) {
    const before = this.token;
    this.token = token;
    this.wanted = true;
    if (!this.running) void this.run();
    else if (token === before) return;
    else if (this.standing === "refused") {
      this.set("connecting"); // it may be refused once more
      this.waiting();
    } else if (before) this.connection?.abort(LEFT); // whoever signs out is told no more
  }

  /** Nobody looks any more. */
  leave() {
    this.wanted = false;
    this.connection?.abort(LEFT);
    this.waiting();
  }

  async run() {
    this.running = true; // one at a time: whoever leaves and comes back meanwhile finds this one
    let wait = RETRY[0];
    while (this.wanted) {
      const opened = await this.connect();
      if (this.connection?.signal.reason === LEFT) continue;
      wait = opened ? RETRY[0] : Math.min(wait * 2, RETRY[1]);
      await this.pause(this.standing === "refused" ? 60_000 : wait * (0.75 + Math.random() / 2));
    }
    this.running = false;
    this.set("connecting");
  }

  /** @param {number} ms */
  pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.waiting = () => {
        clearTimeout(timer);
        resolve(undefined);
      };
    });
  }

  /** One connection, to its end. @returns {Promise<boolean>} Whether it was one. */
  async connect() {
    this.connection = new AbortController();
    const { signal } = this.connection;
    const { token } = this;
    const watch = new Watch(this.base, this.connection, () => this.set("held"));
    let opened = false;
    try {
      const response = await fetch(`${this.base}v1/events`, { headers: this.headers(), cache: "no-store", credentials: "omit", signal });
      if (response.status === 401) {
        if (token !== this.token) return false; // another came meanwhile
        this.forget();
        this.set("refused");
        return false;
      }
      if (response.status === 400) this.lastId = ""; // of another store, or another version
      const why = response.ok || response.status === 400 ? "" : (await response.json()).error.message;
      if (why) {
        this.set("held", String(why));
        return false;
      }
      if (!response.ok || response.body === null) throw new Error(`HTTP ${response.status}`);
      opened = true;
      this.by = token;
      await this.read(response.body.getReader(), watch);
    } catch {
      // Whatever it was: the agent is not there, and is asked again.
    } finally {
      if (this.gathering) this.flush(); // as long as it is known who may be told
      this.by = null;
      watch.end();
      this.connection.abort();
    }
    if (signal.reason !== LEFT) this.set("gone");
    return opened;
  }

  /** @returns {Record<string, string>} */
  headers() {
    /** @type {Record<string, string>} */
    const headers = { Accept: "text/event-stream" };
    if (this.lastId) headers["Last-Event-ID"] = this.lastId;
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    return headers;
  }

  /**
   * @param {ReadableStreamDefaultReader<Uint8Array>} reader
   * @param {Watch} watch
   */
  async read(reader, watch) {
    const decoder = new TextDecoder();
    let rest = "";
    let message = { kind: "", id: "", data: "" };
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      watch.any = true;
      watch.heard();
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (line === "") {
          this.take(message);
          message = { kind: "", id: "", data: "" };
        } else if (line.startsWith("data: ")) {
          message.data += line.slice(6);
        } else if (line.startsWith("event: ")) {
          message.kind = line.slice(7);
        } else if (line.startsWith("id: ")) {
          message.id = line.slice(4);
        }
      }
    }
  }

  /** @param {{kind: string, id: string, data: string}} message */
  take({ kind, id, data }) {
    if (id) this.lastId = id;
    if (!kind) return;
    const told = JSON.parse(data);
    const news = this.news;
    if (kind === "snapshot") {
      this.devices = new Map(told.devices.map((/** @type {Api.Device} */ row) => [row.udid, row]));
      this.silences = []; // told behind it, where there are any
      this.news = { ...nothing(), all: true, rows: told.devices, silences: [], transitions: news.transitions, reset: news.reset };
      this.flush(); // whoever is told that it is live finds all of it
      this.set("live");
      return;
    } else if (kind === "device") {
      this.devices.set(told.udid, told);
      news.rows.push(told);
      news.removed = news.removed.filter((udid) => udid !== told.udid);
    } else if (kind === "removed") {
      this.devices.delete(told.udid);
      news.rows = news.rows.filter((row) => row.udid !== told.udid);
      news.removed.push(told.udid);
    } else if (kind === "transition") {
      news.transitions.push(told);
    } else if (kind === "silences") {
      this.silences = told.silences;
      news.silences = told.silences;
    } else if (kind === "reset") {
      news.reset = told.reason;
    }
    this.gather();
  }

  gather() {
    this.gathering ||= setTimeout(() => this.flush(), GATHER);
  }

  flush() {
    clearTimeout(this.gathering);
    this.gathering = 0;
    const news = this.news;
    this.news = nothing();
    this.onNews(news);
  }

  /** What may not be read any more is shown no more. */
  forget() {
    this.devices.clear();
    this.silences = [];
    this.news = { ...nothing(), all: true, silences: [] };
    this.gather();
  }

  /** @param {Standing} standing @param {string} [why] */
  set(standing, why = "") {
    if (standing === this.standing && why === this.why) return;
    [this.standing, this.why] = [standing, why];
    this.onStanding(standing, why);
  }
}

/** @returns {News} */
export function nothing() {
  return { all: false, rows: [], removed: [], transitions: [], silences: null, reset: "" };
}

/** Ends a connection on which nothing comes, when the agent does not answer otherwise. */
class Watch {
  /**
   * @param {string} base
   * @param {AbortController} connection
   * @param {() => void} held The agent answers, and nothing ever came: a proxy keeps it back.
   */
  constructor(base, connection, held) {
    this.held = held;
    this.any = false;
    this.base = base;
    this.connection = connection;
    this.last = performance.now();
    this.timer = setInterval(() => this.look(), 1000);
    this.asking = false;
  }

  heard() {
    this.last = performance.now();
  }

  async look() {
    if (this.asking || performance.now() - this.last < QUIET) return;
    this.asking = true;
    try {
      const response = await fetch(`${this.base}-/healthy`, { cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(ANSWER) });
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      this.heard();
      if (!this.any && !this.connection.signal.aborted) this.held();
    } catch {
      if (performance.now() - this.last >= QUIET) this.connection.abort();
    } finally {
      this.asking = false;
    }
  }

  end() {
    clearInterval(this.timer);
  }
}
