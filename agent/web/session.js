// Who this tab is to the agent, and becoming somebody who may change things.

import { ApiError, ask } from "./api.js";
import { byId, el, fill, say } from "./dom.js";
import { keepToken, sessionToken, tokens } from "./token.js";

/** Tells of `change`. */
class Session extends EventTarget {
  constructor() {
    super();
    /** @type {Api.Asker} Until the agent answers: nobody, who may read. */
    this.asker = { by: "nobody", may_read: true, may_change: false, session: null, page: null, exposed: false };
    /** What there is to say about a session that ended. */
    this.note = "";
    /** Whoever waits for a sign-in. @type {((signedIn: boolean) => void)[]} */
    this.waiting = [];
    this.mine = false;
  }

  get mayChange() {
    return this.asker.may_change;
  }

  /** Bring the code of the address bar, if there is one, and ask who this is. */
  async start() {
    tokens.addEventListener("change", () => {
      if (this.mine) return;
      this.note = "Your session has ended. What you typed is still there: sign in, and go on.";
      void this.look();
    });
    dialog().addEventListener("close", () => this.settle());
    byId("sign-in-form").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.typed();
    });
    await this.bring();
    await this.look();
  }

  /** A code behind `#` becomes a session, and leaves the address bar and the history at once. */
  async bring() {
    const code = /^#code=([\w.~-]+)$/.exec(location.hash)?.[1];
    if (!code) return;
    history.replaceState(null, "", "#/devices");
    try {
      const { token } = await ask("POST", "v1/sessions", { code });
      this.keep(token);
      this.note = "";
    } catch (error) {
      this.note = said(error);
    }
  }

  /** Ask who this is. @returns {Promise<void>} */
  async look() {
    const token = sessionToken();
    try {
      const asker = await ask("GET", "v1/sessions/current");
      if (token !== sessionToken()) return; // another came meanwhile, and who that is is asked, too
      this.asker = asker;
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) {
        // The token was wrong and is forgotten by now; somebody without one is always answered.
        this.note ||= error.message;
        this.asker = { ...this.asker, by: "nobody", may_change: false };
        if (!sessionToken()) {
          await this.look();
          return;
        }
      }
    }
    this.dispatchEvent(new Event("change"));
  }

  /** @param {string} token */
  keep(token) {
    this.mine = true;
    keepToken(token);
    this.mine = false;
  }

  /**
   * Have somebody sign in if they may not change things yet.
   *
   * @returns {Promise<boolean>} Whether they may now.
   */
  async toChange() {
    if (this.mayChange) return true;
    say(byId("sign-in-why"), this.note);
    this.note = "";
    say(byId("sign-in-error"), "");
    dialog().showModal();
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  /** The token that was typed in: kept if the agent takes it. */
  async typed() {
    const field = /** @type {HTMLInputElement} */ (byId("sign-in-token"));
    const button = /** @type {HTMLButtonElement} */ (byId("sign-in-form").querySelector("[type=submit]"));
    const given = field.value.trim();
    // A whole link of `device-agent ui` may be pasted, too.
    const code = /#code=([\w.~-]+)$/.exec(given)?.[1];
    button.disabled = true; // so Enter does nothing either
    try {
      const token = code ? (await ask("POST", "v1/sessions", { code })).token : given;
      const asker = await ask("GET", "v1/sessions/current", undefined, undefined, undefined, token);
      if (!asker.may_change) throw new ApiError(401, "bad_token", "Type in the token, or paste the link.");
      this.keep(token);
      this.asker = asker;
    } catch (error) {
      say(byId("sign-in-error"), said(error));
      field.focus();
      return;
    } finally {
      button.disabled = false;
    }
    field.value = "";
    dialog().close();
    this.dispatchEvent(new Event("change"));
  }

  settle() {
    const waiting = this.waiting;
    this.waiting = [];
    for (const each of waiting) each(this.mayChange);
  }

  /** Log out: the session ends at the agent, too. */
  async leave() {
    if (this.asker.by === "session") {
      try {
        await ask("DELETE", "v1/sessions/current");
      } catch {
        // It ends by itself, or with the agent.
      }
    }
    this.keep("");
    this.note = "";
    this.asker = { ...this.asker, by: "nobody", may_change: false, session: null };
    await this.look();
  }
}

/** @returns {HTMLDialogElement} */
function dialog() {
  return /** @type {HTMLDialogElement} */ (byId("sign-in"));
}

/**
 * What went wrong, for people.
 *
 * @param {unknown} error
 * @returns {string}
 */
export function said(error) {
  if (error instanceof ApiError) return error.message;
  return `The page failed at this (${error instanceof Error ? error.message : error}): reload it, and tell its makers.`;
}

/**
 * A line that says what went wrong; empty and unseen without an error.
 *
 * @param {Element} node
 * @param {unknown} error null: nothing.
 */
export function show(node, error) {
  if (error === null) {
    fill(node);
    return;
  }
  const problems = error instanceof ApiError ? error.problems : [];
  fill(
    node,
    said(error),
    problems.length > 1 && el("ul", {}, problems.map((each) => el("li", {}, each.message))),
  );
}

export const session = new Session();
