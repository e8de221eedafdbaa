// One stream for all tabs of this browser: HTTP/1.1 allows six connections to a host.

import { Stream } from "./stream.js";

/** @type {Map<MessagePort, string>} The tabs, each with its token. */
const tabs = new Map();
const stream = new Stream(
  new URL("../", self.location.href).href,
  (news) => tell({ news }),
  (standing) => {
    tell({ standing });
    if (standing !== "refused") return;
    // It is void, whatever tab still has it, or crashed with it: with another one all goes on.
    for (const [tab, token] of tabs) if (token === stream.token) tabs.set(tab, "");
    setTimeout(follow);
  },
);

/** @param {unknown} message */
function tell(message) {
  for (const tab of tabs.keys()) tab.postMessage(message);
}

/** With the same token while a tab has it, else that which came last: any of them will do. */
function follow() {
  const all = [...tabs.values()];
  if (all.length === 0) stream.leave();
  else stream.follow(all.includes(stream.token) && stream.token ? stream.token : (all.filter(Boolean).pop() ?? ""));
}

/** @type {any} */ (self).onconnect = (/** @type {MessageEvent} */ event) => {
  const [tab] = event.ports;
  tab.onmessage = ({ data }) => {
    if (data.leave) {
      tabs.delete(tab);
    } else {
      const fresh = !tabs.has(tab);
      tabs.delete(tab);
      tabs.set(tab, data.token);
      if (fresh) {
        tab.postMessage({ standing: stream.standing });
        if (stream.standing === "live") tab.postMessage({ news: all() });
      }
    }
    follow();
  };
};

/** @returns {import("./stream.js").News} */
function all() {
  return { all: true, rows: [...stream.devices.values()], removed: [], transitions: [], silences: stream.silences, reset: "" };
}
