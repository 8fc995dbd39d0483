// Who may manage the daemon, who may log in with CHAP, and what was done.

import { call } from "./api.js";
import { ask, confirm, show } from "./dialogs.js";
import { button, h, head, parseSize, say, size, table, time } from "./dom.js";

const ROLES = [["viewer", "viewer: looks at everything"], ["operator", "operator: changes disks, targets and jobs"],
  ["administrator", "administrator: everything"]];
const NAME = { name: "name", label: "Name", hint: "Letters, digits and . _ - @" };
const PASSWORD = { name: "password", label: "Password", type: "password", hint: "At least 10 characters." };

/** What each view needs beyond what all of them do; some of it is for administrators only. */
export const needs = {
  accounts: ({ role }) => role === "administrator" ? ["chap-accounts", "users", "tokens", "audit"] : ["chap-accounts"],
  settings: () => ["limits", "job-limits", "portal-groups", "settings"],
};

export function accounts({ session, more }) {
  if (!more["chap-accounts"]) return [head("Accounts"), h("p", null, "Loading …")];
  const { users, tokens, audit } = more;
  return [
    head("Accounts"),
    session.role !== "administrator" && h("p", { class: "faint" }, "Users, tokens and the audit log are for administrators."),
    users && part("Users", table("Users", ["User", "Role", "Made", "Actions"], users.map((user) => h("tr", null,
      h("th", { scope: "row", class: "name" }, user.name), h("td", null, user.role), h("td", null, time(user.created)),
      h("td", { class: "actions" },
        button("Role…", () => changeRole(user), { about: user.name }),
        button("Password…", () => changePassword(user), { about: user.name }),
        button("Remove…", () => confirm(`Remove ${user.name}`, "The user's sessions end at once.",
          () => call("DELETE", ["users", user.name]), true), { about: user.name, kind: "danger" })))),
    "There are no users: nobody is asked for a password."), button("New user…", newUser)),
    tokens && part("Tokens", table("Tokens", ["Token", "Role", "Expires", "Actions"], tokens.map((token) => h("tr", null,
      h("th", { scope: "row", class: "name" }, token.name), h("td", null, token.role),
      h("td", { class: token.expired ? "bad" : "" }, token.expired ? "expired" : token.expires ? time(token.expires) : "never"),
      h("td", { class: "actions" }, button("Revoke…", () => confirm(`Revoke ${token.name}`, "Programs that use it are refused from then on.",
        () => call("DELETE", ["tokens", token.name]), true), { about: token.name, kind: "danger" })))),
    "There are no tokens."), button("New token…", newToken)),
    part("CHAP accounts", table("CHAP accounts", ["User", "Targets", "Initiators", "Actions"], more["chap-accounts"].map((it) => h("tr", null,
      h("th", { scope: "row", class: "name" }, it.user),
      h("td", { class: "name" }, it.discovery_only ? "discovery only" : it.targets?.join(", ") ?? "all"),
      h("td", { class: "name" }, it.initiators?.join(", ") ?? "all"),
      h("td", { class: "actions" }, it.configured ? h("span", { class: "faint" }, "in the configuration file") :
        button("Delete…", () => confirm(`Delete ${it.user}`, "Sessions that are there go on. Targets that no other account protects stay protected: then this is refused.",
          () => call("DELETE", ["chap-accounts", it.user]), true), { about: it.user, kind: "danger" })))),
    "There are no CHAP accounts: initiators prove nothing."), button("New CHAP account…", newAccount)),
    audit && part("What was done", table("Audit log", ["When", "Who", "From", "What", "Outcome"], audit.map((it) => h("tr", null,
      h("td", null, time(it.time)), h("td", { class: "name" }, it.user ?? "–", " ", h("span", { class: "faint" }, `(${it.via})`)),
      h("td", null, it.address), h("td", { class: "name" }, `${it.method} ${it.object}`, it.detail && h("div", { class: "faint" }, it.detail)),
      h("td", { class: /^[45]/.test(it.outcome) ? "bad" : "" }, it.outcome))), "Nothing was changed yet.")),
  ];
}

function part(title, content, ...buttons) {
  return h("section", { class: "card", "aria-label": title }, h("div", { class: "head" }, h("h3", null, title), buttons), content);
}

function newUser() {
  ask("New user", [NAME, { name: "role", label: "Role", options: ROLES }, PASSWORD], "Make", async (user) => {
    await call("POST", ["users"], user);
    return `User ${user.name} is there.`;
  }, { note: "As soon as there is an administrator, everybody has to sign in." });
}

function changeRole(user) {
  ask(`Role of ${user.name}`, [{ name: "role", label: "Role", options: ROLES, value: user.role }], "Change", async ({ role }) => {
    await call("PATCH", ["users", user.name], { role });
    return `${user.name} is ${role}.`;
  });
}

function changePassword(user) {
  ask(`Password of ${user.name}`, [PASSWORD], "Change", async ({ password }) => {
    await call("PATCH", ["users", user.name], { password });
    return `${user.name} has another password.`;
  }, { note: "Sessions that began with the old one end." });
}

function newToken() {
  const days = [["7", "7 days"], ["90", "90 days"], ["365", "a year"], ["", "never"]];
  ask("New token", [NAME, { name: "role", label: "Role", options: ROLES },
    { name: "days", label: "Expires after", options: days, value: "90", parse: Number, optional: true }], "Make", async ({ name, role, days }) => {
    const expires = days === undefined ? null : new Date(Date.now() + days * 86400000).toISOString();
    const token = await call("POST", ["tokens"], { name, role, expires });
    // Once the form is closed.
    setTimeout(() => show(`Token ${name}`, h("p", null, "This is its secret. It is not told again:"), h("p", null, h("code", { class: "name" }, token.secret))));
  });
}

function newAccount() {
  const list = (text) => text.split(/[\s,]+/).filter(Boolean);
  ask("New CHAP account", [
    { name: "user", label: "User", hint: "What initiators send as their name." },
    { name: "secret", label: "Secret", type: "password", hint: "12 to 255 characters." },
    { name: "targets", label: "Targets", optional: true, hint: "All of them if you leave it empty.", parse: list },
    { name: "initiators", label: "Initiators", optional: true, hint: "iSCSI names, * stands for any text. All if you leave it empty.", parse: list },
  ], "Make", async ({ user, secret, targets, initiators }) => {
    await call("PUT", ["chap-accounts", user], { secret, targets, initiators });
    return `CHAP account ${user} is there.`;
  }, { note: "Targets that it is good for need proof from now on." });
}

// Settings -----------------------------------------------------------------------------------

const STATES = ["active-optimized", "active-non-optimized", "standby", "unavailable", "transitioning"].map((it) => [it, it]);
const number = (text) => /^\d+$/.test(text) ? Number(text) : undefined;

export function settings({ disks, more }) {
  if (!more.limits) return [head("Settings"), h("p", null, "Loading …")];
  const bandwidth = more["job-limits"].bandwidth;
  return [
    head("Settings"),
    part("Limits of initiators", table("Limits", ["Of", "Commands", "Bytes", "Burst", "Actions"], more.limits.map((it) => {
      const place = it.disk ? ["limits", "disks", it.disk] : ["limits", "initiators", it.initiator];
      const name = it.disk ?? it.initiator;
      return h("tr", null,
        h("th", { scope: "row", class: "name" }, name),
        h("td", { class: "number" }, it.iops ? `${it.iops}/s` : "–"),
        h("td", { class: "number" }, it.bytes_per_second ? `${size(it.bytes_per_second)}/s` : "–"),
        h("td", { class: "number" }, `${it.burst_ms} ms`),
        h("td", { class: "actions" }, button("Lift…", () => confirm(`Lift the limit of ${name}`, "It is in force at once.",
          () => call("DELETE", place)), { about: name })));
    }), "Nobody is limited."),
    button("Limit a disk…", () => limit("disks", { name: "of", label: "Disk", options: disks.map((disk) => [disk.id, disk.name]) })),
    button("Limit an initiator…", () => limit("initiators", { name: "of", label: "Initiator", hint: "Its iSCSI name." }))),
    part("Jobs", h("p", null, `All jobs together copy ${bandwidth ? `at most ${size(bandwidth)} a second` : "as fast as they can"}.`),
      button("Change…", () => ask("What jobs may do", [{ name: "bandwidth", label: "Bytes a second", optional: true, parse: parseSize,
        hint: "As in 100MiB. No limit if you leave it empty.", wrong: "write a number with KiB, MiB or GiB" }], "Change", async ({ bandwidth }) => {
        await call("PUT", ["job-limits"], { bandwidth: bandwidth ?? null });
        return "It is in force, until the daemon stops.";
      }), { about: "what jobs may do" })),
    part("Portal groups", table("Portal groups", ["Tag", "Portals", "State", "Actions"], more["portal-groups"].map((group) => h("tr", null,
      h("th", { scope: "row" }, String(group.tag)), h("td", null, group.portals.join(", ")),
      h("td", null, group.state, group.targets.map((it) => h("div", { class: "faint" }, `${it.target}: ${it.state}`))),
      h("td", { class: "actions" },
        button("State…", () => ask(`State of portal group ${group.tag}`, [{ name: "state", label: "State", options: STATES, value: group.state }], "Set",
          async ({ state }) => { await call("PUT", ["portal-groups", String(group.tag), "state"], { state }); }), { about: `portal group ${group.tag}` }),
        button("Reset…", () => confirm(`Reset portal group ${group.tag}`, `Back to ${group.configured_state}, as it is configured.`,
          () => call("DELETE", ["portal-groups", String(group.tag), "state"])), { about: `portal group ${group.tag}` })))), "There are none.")),
    part("What it was started with", table("What it was started with", ["Key", "Value"], more.settings.map((it) => h("tr", null,
      h("th", { scope: "row" }, it.key), h("td", { class: "name" }, typeof it.value === "string" ? it.value : JSON.stringify(it.value)))), "Nothing is known.")),
    part("Everything as a file", h("p", null, "Targets, LUNs, who may use them, limits and accounts, without secrets. ",
      h("code", null, "lunctl export"), " writes a file that ", h("code", null, "lunctl apply"), " puts in force as a whole."),
    h("p", null, h("a", { href: "/api/v1/configuration", download: "lund.json" }, "Save the configuration as JSON"))),
  ];
}

function limit(kind, of) {
  if (of.options?.length === 0) return say("There are no disks yet: make one first.");
  return ask("Limit", [of,
    { name: "iops", label: "Commands a second", optional: true, parse: number, wrong: "a number is wanted" },
    { name: "bytes_per_second", label: "Bytes a second", optional: true, parse: parseSize, hint: "As in 100MiB.", wrong: "write a number with KiB, MiB or GiB" },
  ], "Limit", async ({ of, ...rates }) => {
    await call("PUT", ["limits", kind, of], rates);
    return "The limit is in force.";
  });
}
