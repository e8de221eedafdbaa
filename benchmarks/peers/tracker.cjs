// A tracker script as it is written on @devicefarmer/adbkit: each change is posted as it comes.
// usage: node tracker.cjs ADB_PORT URL
"use strict";
const { Adb } = require("@devicefarmer/adbkit");

const [, , port, url] = process.argv;
const client = Adb.createClient({ host: "127.0.0.1", port: Number(port) });

async function tell(serial, state) {
  try {
    const answer = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ serial, state }),
    });
    if (!answer.ok) console.error(`${serial} ${state}: HTTP ${answer.status}`);
  } catch (error) {
    console.error(`${serial} ${state}: ${error.message}`);
  }
}

// Not with `await`: the first list may be in by the time it goes on, and would be told to nobody.
function track() {
  client.trackDevices().then((tracker) => {
    tracker.on("add", (device) => tell(device.id, device.type));
    tracker.on("change", (device) => tell(device.id, device.type));
    tracker.on("remove", (device) => tell(device.id, "unplugged"));
    tracker.on("error", () => {});
    tracker.on("end", () => setTimeout(track, 1000));
  }, () => setTimeout(track, 1000));
}

track();
