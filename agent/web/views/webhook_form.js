// A webhook's form: made, changed, or looked at where the operator's file has it.

import { act } from "../act.js";
import { ApiError, ask } from "../api.js";
import { el, fill, put, say } from "../dom.js";
import { show } from "../session.js";

/** @type {Api.Webhook["events"]} */
export const EVENTS = ["online", "offline", "utilizing", "unplugged"];
/** Those behind "more" follow the first four: key, label, what it holds, hint. @type {[string, string, any, string?][]} */
const FIELDS = [
  ["name", "Webhook Name", 50],
  ["url", "URL", 512],
  ["description", "Description", 512],
  ["events", "Events", EVENTS],
  ["enabled", "Enabled", true],
  ["secret", "Signing secret", "password", "Signs callbacks (Standard Webhooks)."],
  ["secret.gone", "Remove the secret", false],
  ["auth.type", "Authentication", { "": "None", basic: "Basic", bearer: "Bearer" }],
  ["auth.username", "User, for basic", "text"],
  ["auth.password", "Password or token", "password"],
  ["headers", "Headers", "lines", "NAME: value, one a line."],
  ["headers.gone", "Remove the headers", false],
  ["payload", "Payload", { standard: "Standard: nine keys", extended: "Extended: more behind them", cloudevents: "CloudEvents 1.0", custom: "Custom: a body of your own" }],
  ["body", "Body", "json", "JSON. {deviceName}, {eventDescription}, {reason} and the like are replaced; {deviceName:80} is cut; {{ is a brace."],
  ["after", "Only after", "text", "Such as 10m: a state counts once it has lasted so long. Empty: at once."],
  ["devices", "Only these devices", "lines", "Patterns of UDIDs such as ce09*, one a line."],
  ["tags", "Only with one of these tags", "lines", "One a line."],
  ["platforms", "Only these platforms", ["android", "ios"]],
  ["backlog", "After an outage send", { all: "All that waits", latest: "Only each phone's newest" }],
  ["timeout", "Timeout", "text", "Such as 5s. Empty: as for all."],
  ["proxy", "Proxy", "text", "Its URL, or none. Empty: as the environment says."],
  ["tls.ca", "TLS: trusted authorities", "text", "Path of a PEM file on the agent's host; so the next two."],
  ["tls.cert", "TLS: client certificate", "text"],
  ["tls.key", "TLS: its private key", "text"],
  ["tls.verify", "TLS: verify the certificate", true],
  ["allow_link_local", "May call link-local addresses", false],
  ["org_id", "Organisation", "number", "Empty: the agent's."],
];

/**
 * What the fields show of a webhook, never a secret; null: of a new one.
 *
 * @param {any} hook
 * @returns {Record<string, any>}
 */
function shown(hook) {
  const { proxy, ...more } = hook ?? {};
  for (const table of ["auth", "tls"]) for (const key in more[table]) more[`${table}.${key}`] = more[table][key];
  for (const key of ["after", "timeout"]) if (typeof more[key] === "number") more[key] = more[key] ? lasting(more[key]) : "";
  more.body = "body" in more && more.body !== null ? JSON.stringify(more.body, null, 2) : "";
  more.proxy = proxy === "" ? "none" : proxy;
  more.headers = [];
  return Object.fromEntries(FIELDS.map(([key, , kind]) => {
    const value = more[key];
    if (Array.isArray(kind)) return [key, kind.filter((each) => value?.includes(each))];
    if (kind === "lines") return [key, value?.join("\n") ?? ""];
    if (typeof kind === "boolean") return [key, value ?? kind];
    return [key, String(value ?? (typeof kind === "object" ? Object.keys(kind)[0] : ""))];
  }));
}

/**
 * What the API takes for what changed; null: the default.
 *
 * @param {string} key
 * @param {Record<string, any>} values
 */
function sent(key, values) {
  const value = values[key];
  if (key === "auth") {
    const { "auth.type": type, "auth.username": username, "auth.password": password } = values;
    return type ? (type === "basic" ? { type, username, password } : { type, token: password }) : null;
  }
  if (key === "tls") {
    const set = ["ca", "cert", "key"].map((name) => [name, values[`tls.${name}`]]).filter(([, path]) => path);
    if (!values["tls.verify"]) set.push(["verify", false]);
    return set.length ? Object.fromEntries(set) : null;
  }
  if (values[`${key}.gone`]) return null;
  if (key === "proxy" && value === "none") return "";
  if (key === "org_id" && value) return Number(value);
  if (key === "headers" && value) return Object.fromEntries(lines(value).map((line) => /([^:]*):?(.*)/.exec(line)?.slice(1).map((each) => each.trim()) ?? []));
  if (key === "body" && value) {
    try {
      return JSON.parse(value);
    } catch {
      return value; // it is refused before it is sent
    }
  }
  if (["devices", "tags"].includes(key)) return lines(value);
  return value === "" ? null : value;
}

/** @param {number} seconds */
const lasting = (seconds) => (seconds % 1 ? `${Math.round(seconds * 1000)}ms` : `${seconds}s`);
/** @param {string} text */
const lines = (text) => text.split("\n").filter((line) => line.trim());
/** @param {any} a @param {any} b */
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
/** Its name, which keeps its direction to itself. @param {string} name */
export const quoted = (name) => `“\u2068${name}\u2069”`;
/** @param {HTMLInputElement} box @param {string} words */
export const toggle = (box, words) => el("label", { class: "toggle" }, box, words);
/** @param {string} word */
export const named = (word) => (word === "ios" ? "iOS" : word[0].toUpperCase() + word.slice(1));

/** Without which webhook and key it is about. @param {Api.Problem} problem */
const wordsOf = ({ key = "", message }) => message.split(`${key}: `).slice(1).join(`${key}: `) || message;

/** Throws, in words. @param {string} text */
function jsonOf(text) {
  try {
    return text.trim() ? JSON.parse(text) : null;
  } catch (error) {
    throw new Error(`It is no JSON: ${error instanceof Error ? error.message : ""}`);
  }
}

/** @param {any} kind @param {string} label @returns {{controls: HTMLElement[], first: HTMLInputElement, get: () => any, set: (value: any) => void}} */
function controlOf(kind, label) {
  if (Array.isArray(kind)) {
    const boxes = kind.map((value) => el("input", { type: "checkbox", value }));
    return {
      controls: boxes.map((box) => toggle(box, named(box.value))),
      first: boxes[0],
      get: () => boxes.filter((box) => box.checked).map((box) => box.value),
      set: (value) => boxes.forEach((box) => (box.checked = value.includes(box.value))),
    };
  }
  const box = typeof kind === "boolean";
  /** @type {any} */
  const first = typeof kind === "object" ? el("select", {}, Object.entries(kind).map(([value, words]) => el("option", { value }, words)))
    : el(kind === "lines" || kind === "json" ? "textarea" : "input", { rows: kind === "json" ? 12 : 2, class: kind === "json" && "mono", type: box ? "checkbox" : kind, spellcheck: "false", autocomplete: kind === "password" ? "new-password" : "off" });
  const holds = box ? "checked" : "value";
  return { controls: [box ? toggle(first, label) : first], first, get: () => first[holds], set: (value) => (first[holds] = value) };
}

/**
 * @param {Api.WebhookDetail | null} hook null: a new one.
 * @param {(saved: Api.Webhook) => void} done
 * @param {Node} [verify] A button.
 */
export function form(hook, done, verify) {
  const ended = new AbortController();
  const { signal } = ended;
  const locked = hook !== null && !hook.managed;
  const heading = hook ? `${locked ? "Webhook" : "Edit"} ${quoted(hook.name)}` : "Create Webhook";
  let base = shown(hook);
  /** @type {Record<string, string | false | 0 | null>} */
  const notes = hook ? {
    url: hook.url_private && "Its query or user is not shown. It stays, unless you change the URL: then type all of it.",
    secret: hook.secrets && "Set, and not shown. Type to replace it.",
    headers: hook.headers.length && `Set, values not shown: ${hook.headers.join(", ")}. Type to replace them all.`,
    "auth.password": hook.auth && "Set, and not shown. Type it again to change authentication.",
    proxy: hook.proxy_private && "Its user is not shown.",
  } : {};

  const fields = Object.fromEntries(FIELDS.map(([key, label, kind, hint]) => {
    const id = `hook-${key}`;
    const { controls, first, get, set } = controlOf(kind, label);
    const count = el("span", { class: "dim small" });
    const counted = () => kind > 1 && say(count, `${[...first.value].length} of ${kind}`);
    const fill = (/** @type {any} */ value) => {
      set(value);
      counted();
    };
    const error = el("p", { class: "error", id: `${id}-e` });
    const group = Array.isArray(kind);
    const node = el(
      group ? "fieldset" : "div",
      { class: "field", hidden: (key.endsWith(".gone") && !notes[key.split(".")[0]]), oninput: counted },
      group ? el("legend", {}, label) : typeof kind !== "boolean" && el("div", { class: "over" }, el("label", { for: id }, label), count),
      controls,
      el("div", { class: "dim small", id: `${id}-h` }, [notes[key], hint].filter(Boolean).join(" ")),
      error,
    );
    first.id = id;
    first.setAttribute("aria-describedby", `${id}-e ${id}-h`);
    fill(base[key]);
    return [key, { label, node, first, error, get, set: fill }];
  }));
  const { first: secret, node: secretNode } = fields.secret;
  const made = el("span", { role: "status" });
  put(secretNode, el("button", { type: "button", onclick() {
    secret.type = "text";
    secret.value = `whsec_${btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(24))))}`;
    secret.select();
    say(made, `${document.execCommand("copy") ? " Copied" : " Copy it"} for the receiver: it is not shown again.`);
  } }, "Make one"), made);

  const sample = el("pre", { tabindex: 0, role: "region", "aria-label": "Preview" });
  const sampled = el("div", { class: "dim small", role: "status" });
  put(fields.body.node, el("div", { class: "dim small" }, "Preview: what is sent of a sample"), sample, sampled);
  let timer = 0;
  let asked = 0;
  /** What would be sent, by the API, once nothing was typed for a moment. */
  function preview() {
    const custom = fields.payload.get() === "custom";
    fields.body.node.hidden = !custom;
    clearTimeout(timer);
    asked++;
    if (custom && !signal.aborted) timer = setTimeout(look, 300, asked);
  }
  /** @param {number} turn */
  async function look(turn) {
    const now = values();
    let said = "";
    let at = "body";
    try {
      const body = jsonOf(now.body);
      const about = { payload: "custom", body, id: hook?.id ?? null, name: now.name.trim().slice(0, 50) || null, events: now.events.length ? now.events : null };
      const answer = await ask("POST", "v1/preview", about, signal);
      if (turn !== asked) return;
      say(sample, JSON.stringify(JSON.parse(answer.body), null, 2));
    } catch (error) {
      if (turn !== asked || signal.aborted) return;
      const problems = error instanceof ApiError ? error.problems : [];
      const mine = problems.filter(({ key }) => key === "body");
      said = mine.length ? mine.map(wordsOf).join(" ") : error instanceof Error ? error.message : "";
      if (error instanceof ApiError && !mine.length) at = "";
    }
    good(fields.body);
    say(sampled, said && (at ? sample.textContent && "This is the last that could be sent." : said));
    if (said && at && now.body) fail(at, said);
  }
  const values = () => {
    const now = Object.fromEntries(Object.entries(fields).map(([key, field]) => [key, field.get()]));
    return now.payload === "custom" ? now : { ...now, body: "" };
  };
  function changes() {
    const now = values();
    const keys = Object.keys(now).filter((key) => !same(now[key], base[key])).map((key) => key.split(".")[0]);
    return Object.fromEntries(keys.map((key) => [key, sent(key, now)]));
  }
  const dirty = () => !locked && !signal.aborted && Object.keys(changes()).length > 0;

  /** Say a mistake at its field, if it has one. @param {string} key @param {string} message */
  function fail(key, message) {
    const field = fields[key] ?? fields[`${key}.type`] ?? fields[key.replace("token", "password")] ?? fields[key.split(".")[0]];
    if (!field) return false;
    put(field.error, el("span", {}, message, " "));
    field.first.setAttribute("aria-invalid", "true");
    return true;
  }

  /** Lead to the first mistake. */
  function lead() {
    const first = Object.values(fields).find((field) => field.error.textContent)?.first;
    if (first && rest.contains(first)) rest.open = true;
    first?.focus();
    return !first;
  }

  /** @param {{first: HTMLElement, error: HTMLElement}} field */
  function good({ first, error }) {
    fill(error);
    first.removeAttribute("aria-invalid");
  }

  /** The document's limits, before anything is sent. */
  function fits() {
    const now = values();
    for (const [key, , most] of FIELDS) if (most > 1 && [...now[key]].length > most) fail(key, `At most ${most} characters.`);
    if (!now.name.trim()) fail("name", "A webhook needs a name.");
    if (!/^https?:\/\/[^/?#]/i.test(now.url)) fail("url", "An absolute URL is needed: http://… or https://…");
    if (!now.events.length) fail("events", "Turn on at least one.");
    try {
      jsonOf(now.body);
    } catch (error) {
      fail("body", /** @type {Error} */ (error).message);
    }
    return lead();
  }

  /** What would be typed meanwhile is in no request. */
  async function send() {
    const body = changes();
    const focused = /** @type {HTMLElement | null} */ (document.activeElement);
    all.disabled = true;
    try {
      return await ask(hook ? "PATCH" : "POST", `v1/webhooks${hook ? `/${hook.id}` : ""}`, body);
    } finally {
      all.disabled = false;
      if (document.activeElement === document.body) focused?.focus();
    }
  }

  async function submit() {
    show(top, null);
    Object.values(fields).forEach(good);
    clearTimeout(timer);
    asked++; // a preview that comes now would wipe away what is said of the body
    if (fits()) await store();
    if (!fields.body.error.textContent) preview();
  }

  async function store() {
    await act(save, top, async () => {
      try {
        const saved = await send();
        if (signal.aborted) return; // somebody went elsewhere meanwhile
        ended.abort();
        done(saved);
      } catch (error) {
        const problems = error instanceof ApiError ? error.problems : [];
        const left = problems.filter((each) => !fail(each.key ?? "", wordsOf(each)));
        if (left.length === problems.length) throw error;
        fill(top, left.map((each) => el("p", {}, each.message)));
        lead();
      }
    });
    if (top.textContent) top.scrollIntoView({ block: "nearest" });
  }

  const top = el("div", { class: "error", role: "alert" });
  const note = el("p", { class: "warn", role: "status" });
  const save = el("button", { class: "main" }, "Save");
  const nodes = Object.values(fields).map((field) => field.node);
  const rest = el("details", {}, el("summary", {}, "More: signing, authentication, scope, payload, TLS"), nodes.slice(4));
  const all = el("fieldset", { disabled: locked }, nodes.slice(0, 4), rest);
  const apart = (/** @type {object} */ row) => Object.values(row).slice(5, -1);
  rest.open = !!notes.secret || !!notes.headers || !same(apart(base), apart(shown(null)));
  const node = el(
    "form",
    { class: "card drawer", novalidate: true, "aria-label": heading, onsubmit(/** @type {Event} */ event) {
      event.preventDefault();
      void submit();
    } },
    el("h2", { tabindex: -1 }, heading),
    hook && locked && el("p", { class: "warn" }, `It stands in ${hook.file}:${hook.line}, which the page never changes. Edit it there, or on the agent's host: `, el("code", {}, `device-agent webhooks edit ${hook.id}`)),
    note,
    top,
    all,
    el("div", { class: "acts" }, !locked && save, verify, el("a", { class: "button", href: "#/webhooks" }, locked ? "Close" : "Cancel")),
  );

  all.addEventListener("input", preview);
  preview();
  addEventListener("beforeunload", (event) => dirty() && event.preventDefault(), { signal });

  return {
    node,
    close() {
      ended.abort();
      clearTimeout(timer);
      node.remove();
    },
    /** Whether it may go. */
    leave: () => !dirty() || confirm("Leave? What you typed is not saved."),
    /** See whether somebody else changed it. @param {number[]} ids Of all that there are. */
    async look(ids) {
      if (!hook || signal.aborted) return;
      if (!ids.includes(hook.id)) {
        hook = null;
        base = shown(null);
        say(note, "It was deleted meanwhile. What stands here is kept: Save makes it anew, without what is not shown.");
        return;
      }
      const now = shown(await ask("GET", `v1/webhooks/${hook.id}`));
      const changed = Object.entries(fields).filter(([key]) => !same(now[key], base[key]));
      for (const [key, field] of changed) if (same(field.get(), base[key])) field.set(now[key]);
      base = now;
      if (changed.length) preview();
      if (changed.length) say(note, `Changed elsewhere meanwhile: ${changed.map(([, field]) => field.label).join(", ")}. What you typed stays.`);
    },
  };
}
