// Asks the daemon when it tells of a change, and every two seconds for what it does not tell
// (throughput); draws the view that the address names.

import { everything } from "./api.js";
import { h } from "./dom.js";
import * as signIn from "./sign-in.js";
import { accounts, needs, settings } from "./accounts.js";
import { snapshots } from "./snapshots.js";
import { disks, jobs, overview, sessions, targets } from "./views.js";

const views = { overview, disks, snapshots, targets, sessions, jobs, accounts, settings };
const PAUSE = 2000;
const KEPT = 60;

const main = document.getElementById("main");
const lost = document.getElementById("lost");
const rates = [];
let state;
let drawn = "";
let before;
let asked = false;

const name = () => {
  const wanted = location.hash.slice(1);
  return Object.hasOwn(views, wanted) ? wanted : "overview";
};

/** Redraws if something has changed; the keyboard's place is kept. */
function draw(force) {
  if (!state) return;
  const view = name();
  const seen = JSON.stringify([view, state, view === "overview" ? rates : 0]);
  if (seen === drawn && !force) return;
  drawn = seen;
  const focused = main.contains(document.activeElement) && document.activeElement !== main ? document.activeElement : null;
  const label = focused && (focused.getAttribute("aria-label") ?? focused.textContent);
  main.replaceChildren(...views[view]({ ...state, rates }).flat(Infinity).filter((part) => part != null && part !== false));
  if (label) {
    const again = [...main.querySelectorAll("button, a, [tabindex]")]
      .find((element) => (element.getAttribute("aria-label") ?? element.textContent) === label);
    again?.focus({ preventScroll: true });
  }
  document.title = `${view[0].toUpperCase()}${view.slice(1)} – lund`;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

/** Throughput from one look to the next. Sessions that came or went count from what they had. */
function measure(sessions, now) {
  const sums = new Map(sessions.map((it) => [`${it.tsih} ${it.since}`, it]));
  if (before) {
    const seconds = Math.max(0.001, (now - before.now) / 1000);
    const grown = (field) => [...sums].reduce((sum, [key, it]) =>
      sum + Math.max(0, it[field] - (before.sums.get(key)?.[field] ?? 0)), 0) / seconds;
    rates.push({ read: grown("read_bytes"), written: grown("written_bytes"), commands: grown("commands") });
    if (rates.length > KEPT) rates.shift();
  }
  before = { sums, now };
}

/** Nobody is signed in: the form, until somebody is. */
function ask(note) {
  state = before = undefined;
  drawn = "";
  rates.length = 0;
  lost.hidden = true;
  source?.close();
  source = undefined;
  signIn.show(null);
  if (asked) return;
  asked = true;
  document.getElementById("dialog").close();
  main.replaceChildren(signIn.form(note, () => { asked = false; look(); main.focus(); }));
  document.title = "Sign in – lund";
  document.getElementById("user").focus();
}

async function look() {
  if (asked) return;
  try {
    state = await everything(needs[name()]);
    measure(state.sessions, performance.now());
    lost.hidden = true;
    signIn.show(state.session, () => ask());
  } catch (error) {
    if (error.status === 401) return ask(state && "Your session has ended.");
    lost.hidden = false;
    if (!state) main.replaceChildren(h("p", null, "Waiting for the daemon …"));
  }
  draw();
}

let source;
let soon;

/** Has the daemon tell what changes. The browser connects again by itself. */
function follow() {
  if (source || asked) return;
  source = new EventSource("/api/v1/events");
  const changed = () => {
    clearTimeout(soon);
    soon = setTimeout(look, 100);
  };
  const things = ["job", "disk", "snapshot", "target"];
  const names = things.flatMap((it) => [`${it}-created`, `${it}-changed`, `${it}-deleted`]);
  for (const name of [...names, "lun-created", "lun-deleted", "condition-changed", "session-began", "session-ended", "lost"]) {
    source.addEventListener(name, changed);
  }
  // An answer that is no stream: nobody is signed in, or there are too many readers.
  source.onerror = () => { if (source.readyState === EventSource.CLOSED) source = undefined; };
}

async function run() {
  for (;;) {
    if (!document.hidden) {
      await look();
      if (state) follow();
    }
    await new Promise((resolve) => { setTimeout(resolve, PAUSE); });
  }
}

window.addEventListener("hashchange", () => { draw(true); look(); if (!asked) main.focus(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
// What was changed is seen at once.
document.getElementById("dialog").addEventListener("close", () => { look(); });
run();
