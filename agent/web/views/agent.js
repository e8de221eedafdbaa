// Whether the agent does its work: what it says of itself, and what its doctor finds.

import { act, errorLine, modal } from "../act.js";
import { ask } from "../api.js";
import { el, fill, order, part, put, say } from "../dom.js";
import { fleet } from "../fleet.js";
import { age, at, count, shape, size, span } from "../format.js";
import { poll } from "../poll.js";
import { session, show } from "../session.js";

export const title = "Agent";

/** Milliseconds between two looks. */
const EVERY = 5_000;
const VERDICTS = { ok: ["●", "good"], warn: ["▲", "look at it"], fail: ["▲", "mend it"] };
/** Of a host at its hub: sign, and what it is coloured like. */
const PRESENCE = { alive: ["●", "online"], unheard: ["◌", "warn"], lost: ["▲", "offline"], gone: ["▲", "offline"] };
const BY = { start: "at the start", request: "as asked for", edit: "after a change of a webhook", signal: "by a signal", file: "as its file changed" };

/**
 * @param {HTMLElement} root
 * @returns {import("../main.js").View}
 */
export function open(root) {
  const status = el("div", { class: "cards" }, el("p", { class: "dim" }, "Asking the agent …"));
  const error = errorLine();
  const reloadError = el("div", { class: "error", role: "alert" });
  const reload = el("button", { onclick: () => act(reload, reloadError, load) }, "Reload the configuration");
  const reloaded = el("p", { class: "dim", role: "status" });
  const findings = el("div", { "aria-live": "polite" });
  const doctorError = el("div", { class: "error", role: "alert" });
  const examine = el("button", { type: "button", onclick: () => doctor() }, "Examine again");
  const sessions = el("div");
  const hub = el("div");
  put(
    root,
    el("div", { class: "head" }, el("h1", {}, title), el("span", { class: "end" }), reload),
    error,
    reloadError,
    reloaded,
    hub,
    status,
    el("section", { class: "card" }, el("div", { class: "head" }, el("h2", {}, "Doctor"), el("span", { class: "end" }), examine), doctorError, findings),
    sessions,
  );

  const look = poll(EVERY, async (signal) => {
    try {
      const told = await ask("GET", "v1/status", undefined, signal);
      // What is as it was stays, with the focus and what is selected in it.
      const made = [standing(told), told.fleet && inFleet(told.fleet), !(fleet.hub && told.sources.every((/** @type {Api.Source} */ each) => each.state === "off")) && sources(told), store(told), lastReload(told.reload)].filter((card) => card instanceof Element);
      order(status, made.map((card, i) => (status.children[i]?.isEqualNode(card) ? status.children[i] : card)));
      show(error, null);
      const signedIn = session.mayChange ? (await ask("GET", "v1/sessions", undefined, signal)).sessions : [];
      // Not what changes with every request of theirs: a row stays while it is pressed.
      part(sessions, signedIn.map((/** @type {Api.Session} */ { id, streams }) => [id, streams > 0]), () => [who(signedIn)]);
    } catch (failed) {
      if (!signal.aborted) show(error, failed);
    }
  });

  async function load() {
    say(reloaded, "");
    try {
      const { changed, needs_restart: restart } = await ask("POST", "v1/reload");
      say(reloaded, `In force. ${changed.length ? `Changed: ${changed.join(", ")}.` : "Nothing changed."}${restart.length ? ` Needs a restart: ${restart.join(", ")}.` : ""}`);
    } finally {
      void look.now();
    }
  }

  async function doctor() {
    examine.disabled = true;
    say(examine, "Examining, up to 10 s …");
    try {
      fill(findings, report(await ask("GET", "v1/doctor")));
      show(doctorError, null);
    } catch (failed) {
      show(doctorError, failed);
    }
    examine.disabled = false;
    say(examine, "Examine again");
  }

  /** @param {Api.Session[]} all */
  function who(all) {
    if (!all.length) return null;
    return el(
      "section",
      { class: "card" },
      el("h2", {}, "Who is signed in"),
      el("ul", { class: "plain" }, all.map((one) => {
        const failed = errorLine();
        const mine = one.id === session.asker.session?.id;
        const end = !mine && el("button", { "data-key": one.id, onclick: (/** @type {any} */ { target }) => act(target, failed, () => ask("DELETE", `v1/sessions/${encodeURIComponent(one.id)}`)).then(look.now) }, "End");
        return el("li", {}, el("strong", {}, one.user || `uid ${one.uid}`), ` from ${one.address || "this host"}`, mine && " (this tab)", el("span", { class: "dim" }, " since ", at(one.created_at), one.streams > 0 && ", looking now"), " ", end, failed);
      })),
    );
  }

  const drawHub = () => part(hub, [fleet.hub, fleet.hosts], () => (fleet.hub ? [theFleet(fleet.hub, fleet.hosts)] : []));
  drawHub();
  fleet.addEventListener("change", drawHub);
  const changed = () => void look.now();
  session.addEventListener("change", changed);
  void doctor();
  return {
    update() {},
    close() {
      look.end();
      fleet.removeEventListener("change", drawHub);
      session.removeEventListener("change", changed);
    },
  };
}

/** @param {Api.Status} told */
function standing(told) {
  return el(
    "section",
    { class: "card" },
    el("h2", { class: told.ready ? "is-online" : "is-offline" }, shape(told.ready ? "●" : "▲"), told.ready ? " Ready" : " Not ready"),
    told.problems.length > 0 && el("ul", { class: "warn" }, told.problems.map((problem) => el("li", {}, problem))),
    facts([
      ["Host", told.host],
      ["Version", told.version],
      ["Running for", age(told.since)],
      ["Silences", told.silences ? el("a", { href: "#/devices?state=silenced" }, String(told.silences)) : "none"],
    ]),
  );
}

/** How an agent stands in its fleet. @param {Api.Fleet} told */
function inFleet({ host, state, since, unacked, acked, error }) {
  const good = state === "connected";
  return el(
    "section",
    { class: "card" },
    el("h2", {}, "Fleet"),
    state === "refused" && el("p", { class: "error" }, `Another agent is called ${host}: its hub hears that one. Give one of them another [fleet] host.`),
    facts([
      ["Called", host],
      ["State", el("span", { class: good ? "is-online" : "is-offline" }, shape(good ? "●" : "▲"), ` ${state}`)],
      ["For", age(since)],
      ["Waiting", unacked ? `${count(unacked, "transition")} that no hub has stored yet` : "nothing: the hub has all of it"],
      ["Acknowledged", at(acked, "not since the start")],
      error && [good ? "Last error" : "Error", el("span", { class: good ? "dim" : "error" }, error)],
    ]),
  );
}

/**
 * A hub, and its hosts.
 *
 * @param {Api.Hub} hub
 * @param {Api.Host[]} hosts
 */
function theFleet(hub, hosts) {
  const word = hub.blind ? "Blind" : hub.active ? "Active" : "Standby";
  const about = hub.blind
    ? `${hub.reason || "the broker gives back none of its heartbeats"}. It decides nothing until it hears itself again.`
    : hub.active ? "this hub sends the callbacks." : "another hub sends the callbacks; this one takes over when that is silent.";
  const more = [hub.moves && `${count(hub.moves, "phone")} moved between hosts`, hub.bad_messages && `${count(hub.bad_messages, "message")} not understood`, hub.dropped && `${count(hub.dropped, "message")} asked for again`].filter(Boolean);
  const names = ["Host", "State", "Devices", "Behind", "Heard", "Version", "Problem", ""];
  return el(
    "section",
    { class: "card" },
    el("h2", {}, "Hosts"),
    el("p", {}, el("strong", { class: hub.blind ? "is-offline" : hub.active ? "is-online" : "dim" }, shape(hub.blind ? "▲" : hub.active ? "●" : "○"), ` ${word}`), `: ${about}`, more.length > 0 && el("span", { class: "dim" }, ` Since its start: ${more.join(", ")}.`)),
    hosts.length ? el("table", { class: "fleet" }, el("thead", {}, el("tr", {}, names.map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, hosts.map((host) => hostRow(host, hub.blind)))) : el("p", { class: "empty" }, "No host was heard of yet. Its agent needs [fleet] servers, and the broker's password."),
  );
}

/**
 * @param {Api.Host} told
 * @param {boolean} blind The hub knows of none whether it is there.
 */
function hostRow({ host, state, devices, lag, heartbeat_age: heard, version, problem, caught_up: whole }, blind) {
  const [sign, like] = blind ? ["◌", "unplugged"] : PRESENCE[state];
  const forget = el("button", { class: "danger", "data-key": `forget ${host}`, "aria-label": `Forget ${host}`, onclick: () => forgetting(host, state, devices) }, "Forget …");
  /** @type {[string, import("../dom.js").Child][]} */
  const cells = [
    ["", el("strong", {}, host)],
    ["", el("span", { class: `state is-${like}` }, shape(sign), ` ${blind ? "was " : ""}${state}`)],
    ["devices", el("a", { href: `#/devices?host=${encodeURIComponent(host)}`, "data-key": host, "aria-label": `${count(devices, "device")} of ${host}` }, String(devices))],
    ["behind", lag ? el("span", { class: "warn" }, String(lag)) : whole || state !== "alive" ? "0" : "catching up"],
    ["heard", blind ? "–" : heard === null ? "not yet" : `${span(heard * 1000)} ago`],
    ["version", version || "–"],
    ["", problem],
    ["", state === "alive" || blind ? "" : forget],
  ];
  return el("tr", {}, cells.map(([label, content]) => el("td", label ? { "data-label": label } : {}, content)));
}

/**
 * @param {string} host
 * @param {Api.Host["state"]} state
 * @param {number} devices
 */
function forgetting(host, state, devices) {
  const parts = [
    el("p", {}, `For a host that was taken down for good. ${devices ? `Its ${count(devices, "phone")} ${devices === 1 ? "is" : "are"} shown no more, but what another host has.` : "It has no phones."} Nobody is called back.`),
    el("p", {}, "A phone that turns up at another host goes on from its last state. Should the agent come back, it is a new host."),
    el("p", { class: "dim" }, `With two hubs it is to be done at each.${state === "unheard" ? " It was not heard since this hub's start, and may still come." : ""}`),
  ];
  return modal(`Forget ${host}?`, parts, "Forget it", async () => {
    await ask("DELETE", `v1/hosts/${encodeURIComponent(host)}`);
    fleet.look();
  });
}

/** @param {Api.Status} told */
function sources(told) {
  const rows = told.sources.map((each) => line(each.source, each.state, each.reason || (each.remote ? "on another host" : "")));
  for (const usage of told.usage) {
    if (usage.reason || !usage.targets.length) rows.push(line(usage.source, usage.reason ? "down" : "up", usage.reason));
    for (const target of usage.targets) {
      rows.push(line(`${usage.source} ${target.target}`, target.state, [count(target.sessions, "session"), target.reason].filter(Boolean).join(", ")));
    }
  }
  return el("section", { class: "card" }, el("h2", {}, "Sources"), el("p", { class: "dim" }, "Where the agent learns which phones there are, and who uses them."), el("ul", { class: "plain" }, rows));
}

/**
 * @param {string} name
 * @param {string} state
 * @param {string} more
 */
function line(name, state, more) {
  const good = ["up", "ok"].includes(state);
  const idle = ["off", "resting"].includes(state);
  return el("li", {}, el("strong", {}, name), " ", el("span", { class: idle ? "dim" : good ? "is-online" : "is-offline" }, shape(idle ? "○" : good ? "●" : "▲"), ` ${state}`), more && el("span", { class: "dim" }, ` ${more}`));
}

/** @param {Api.Status} told */
function store({ store: kept }) {
  return el(
    "section",
    { class: "card" },
    el("h2", {}, "Store"),
    facts([
      ["State", kept.ok ? "good" : el("span", { class: "error" }, `${kept.error}; ${count(kept.waiting, "change")} wait in memory`)],
      ["Lost", kept.lost ? el("span", { class: "error" }, `${count(kept.lost, "change")}: memory was full`) : "nothing"],
      ["Directory", el("code", {}, kept.directory)],
      ["Size", `${size(kept.size)}, ${size(kept.free)} free on its disk`],
      ["SQLite", kept.sqlite],
      kept.recovered_from && ["Set aside", el("span", { class: "warn" }, `it was corrupt: ${kept.recovered_from}`)],
    ]),
  );
}

/** @param {Api.Reload} reload */
function lastReload(reload) {
  return el(
    "section",
    { class: "card" },
    el("h2", {}, "Configuration"),
    reload.at === null
      ? el("p", { class: "dim" }, "As it was at the start.")
      : el("p", {}, reload.ok ? "Loaded " : el("span", { class: "error" }, "Refused "), at(reload.at), `, ${BY[reload.by]}.`, !reload.ok && " What was in force stays."),
    !reload.ok && el("p", { class: "error" }, reload.problems.length ? "" : reload.error),
    reload.problems.length > 0 && el("ul", { class: "error" }, reload.problems.map((each) => el("li", {}, el("code", {}, `${each.file}:${each.line}:${each.column}`), ` ${each.message}`))),
  );
}

/** @param {Api.Doctor} told */
function report({ at: when, findings }) {
  /** @type {Map<string, Api.Finding[]>} */
  const sections = new Map();
  for (const each of findings) sections.set(each.section, [...(sections.get(each.section) ?? []), each]);
  const bad = findings.filter((each) => each.verdict !== "ok").length;
  return el(
    "div",
    {},
    el("p", {}, bad ? `${count(bad, "finding")} to look at, of ${findings.length}; ` : `All ${findings.length} good; `, at(when), "."),
    [...sections].map(([section, some]) =>
      el("details", { open: some.some((each) => each.verdict !== "ok") }, el("summary", {}, section), el("ul", { class: "plain" }, some.map(finding))),
    ),
  );
}

/** @param {Api.Finding} each */
function finding(each) {
  const [sign, word] = VERDICTS[each.verdict];
  return el("li", {}, el("span", { class: `is-${each.verdict}` }, shape(sign), el("span", { class: "unseen" }, ` ${word}: `)), " ", el("strong", {}, each.check), ` ${each.found}`, each.remedy && el("div", { class: "warn" }, each.remedy));
}

/** @param {(["" | string, import("../dom.js").Child] | "" | false)[]} rows */
function facts(rows) {
  return el("dl", { class: "facts" }, rows.flatMap((row) => (row ? [el("dt", {}, row[0]), el("dd", {}, row[1])] : [])));
}
