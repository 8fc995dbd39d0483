// What each view shows of the daemon's state.

import { call, get } from "./api.js";
import { checkDisk } from "./checks.js";
import { ask, compared, confirm, explain, show } from "./dialogs.js";
import { button, duration, facts, h, head, parseSize, say, size, table, time } from "./dom.js";

const SIZE_HINT = "A number with a unit: 500MiB, 10GiB, 2TiB.";
const sizeField = (value) => ({ name: "size", label: "Size", hint: SIZE_HINT, value,
  parse: parseSize, wrong: "write a number with KiB, MiB, GiB or TiB, as in 10GiB" });

// Overview -----------------------------------------------------------------------------------

const STATES = { serving: ["Initiators are served", "good"], starting: ["Starting: no initiator is let in yet", "warn"],
  draining: ["Draining: no initiator is let in", "warn"], stopping: ["Stopping", "warn"] };

function curve(points) {
  const highest = Math.max(1, ...points);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "curve");
  svg.setAttribute("viewBox", "0 0 100 30");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  const step = points.length > 1 ? 100 / (points.length - 1) : 0;
  line.setAttribute("points", points.map((point, at) => `${at * step},${29 - 28 * point / highest}`).join(" "));
  svg.append(line);
  return svg;
}

export function overview({ status, pools, disks, sessions, jobs, rates }) {
  const [text, kind] = STATES[status.state] ?? [status.state, "warn"];
  const faults = jobs.filter((job) => job.kind === "data-path-fault");
  const running = jobs.filter((job) => !job.ended);
  const drained = status.state === "draining";
  const now = rates.at(-1);
  return [
    head("Overview", drained
      ? button("Resume", () => confirm("Resume", "Initiators are let in again.", () => call("POST", ["resume"], {})))
      : button("Drain…", () => confirm("Drain", "All initiators are asked to log out, and nobody is let in until you resume.",
        () => call("POST", ["drain"], {})))),
    h("div", { class: "cards" },
      h("section", { class: "card" }, h("h3", null, "Daemon"), h("p", { class: kind }, text),
        facts([["Version", status.version], ["Portals", status.portals.join(", ")],
          ["iSNS", status.isns && `${status.isns.server}: ${status.isns.state}`]])),
      h("section", { class: "card" }, h("h3", null, "Throughput"),
        facts([["Read", `${size(now?.read ?? 0)}/s`], ["Written", `${size(now?.written ?? 0)}/s`],
          ["Commands", `${Math.round(now?.commands ?? 0)}/s`], ["Sessions", String(sessions.length)]]),
        curve(rates.map((rate) => rate.read + rate.written))),
      pools.map((pool) => h("section", { class: "card" }, h("h3", null, `Pool ${pool.id}`), capacity(pool))),
      h("section", { class: "card" }, h("h3", null, "Work"),
        facts([["Disks", String(disks.length)], ["Jobs at work", String(running.length)]]),
        faults.length === 0 ? h("p", { class: "good" }, "No faults on the data path") :
          h("p", { class: "bad" }, h("a", { href: "#jobs" }, `${faults.length} faults on the data path`))),
    ),
    status.alerts.map((alert) => h("section", { class: "card", role: "alert" },
      h("h3", { class: "bad" }, "The daemon needs attention"), explain(alert))),
  ];
}

function capacity(pool) {
  if (pool.unavailable) return h("p", { class: "bad" }, `Not available: ${pool.unavailable}`);
  const used = pool.total_bytes - pool.free_bytes;
  return [h("progress", { max: pool.total_bytes, value: used, "aria-label": `Used space of pool ${pool.id}` }),
    facts([["Free", `${size(pool.free_bytes)} of ${size(pool.total_bytes)}`],
      ["Promised to jobs", pool.reserved_bytes > 0 ? size(pool.reserved_bytes) : null], ["Directory", pool.directory]])];
}

// Disks --------------------------------------------------------------------------------------

export function disks({ disks, targets }) {
  return [
    head("Disks", button("New disk…", newDisk, { kind: "main" })),
    table("Disks", ["Name", "Size", "Used", "Space", "Exposed as", "Actions"], disks.map((disk) => h("tr", null,
      h("th", { scope: "row", class: "name" }, disk.name),
      h("td", { class: "number" }, size(disk.size_bytes)),
      disk.allocated_bytes == null ? h("td", { class: "bad" }, "file missing") : h("td", { class: "number" }, size(disk.allocated_bytes)),
      h("td", null, disk.provisioning),
      h("td", { class: "name" }, disk.mappings.map((it) => h("div", null, `${it.target} LUN ${it.lun}`))),
      h("td", { class: "actions" },
        button("Grow…", () => growDisk(disk), { about: disk.name }),
        button("Expose…", () => expose(targets, disk), { about: disk.name }),
        button("Clone…", () => cloneDisk(disk), { about: disk.name }),
        button("Check…", () => checkDisk(disk), { about: disk.name }),
        button("Delete…", () => deleteDisk(disk), { about: disk.name, kind: "danger" })))), "There are no disks yet."),
  ];
}

function newDisk() {
  ask("New disk", [
    { name: "name", label: "Name" },
    sizeField("10GiB"),
    { name: "format", label: "Format", options: [["raw", "raw"], ["qcow2", "qcow2"], ["vhdx", "VHDX"], ["vhd", "VHD"]] },
    { name: "provisioning", label: "Space", options: [["thin", "Thin: taken when it is written"], ["full", "Full: taken now"]] },
    { name: "block_length", label: "Block length", options: [["512", "512 bytes"], ["4096", "4096 bytes"]], parse: Number },
  ], "Create", async ({ name, size, format, provisioning, block_length }) => {
    return call("POST", ["disks"], { name, size_bytes: size, format, provisioning, block_length });
  });
}

export function cloneDisk(disk) {
  ask(`Clone ${disk.name}`, [{ name: "name", label: "Name of the copy" }], "Clone",
    async ({ name }) => call("POST", ["disks", disk.id, "clone"], { name }),
    { note: "The copy has what the disk has at this moment, and goes its own way from then on." });
}

function growDisk(disk) {
  ask(`Grow ${disk.name}`, [sizeField(size(disk.size_bytes).replace(" ", ""))], "Grow", async ({ size }) => {
    return call("POST", ["disks", disk.id, "expand"], { size_bytes: size });
  }, { note: `It has ${size(disk.size_bytes)} now. Initiators that use it are told.` });
}

function deleteDisk(disk) {
  ask(`Delete ${disk.name}`, [{ name: "name", label: "Write its name to confirm" }], "Delete", async ({ name }) => {
    if (name !== disk.name) return `Disk ${disk.name} stays: that was not its name.`;
    return call("DELETE", ["disks", disk.id]);
  }, { danger: true, note: "The disk and everything on it are gone for good." });
}

function expose(targets, disk) {
  if (targets.length === 0) return show(`Expose ${disk.name}`, h("p", null, "There are no targets yet: make one first."));
  ask(`Expose ${disk.name}`, [
    { name: "target", label: "Target", options: targets.map((target) => [target.name, target.name]) },
    lunField,
  ], "Expose", async ({ target, lun }) => {
    const mapping = await call("POST", ["targets", target, "luns"], { disk: disk.id, lun });
    return `${disk.name} is LUN ${mapping.lun} of ${mapping.target}.`;
  });
}

const lunField = { name: "lun", label: "LUN", optional: true, hint: "The lowest free one if you leave it empty.",
  parse: (text) => /^\d+$/.test(text) ? Number(text) : undefined, wrong: "a number is wanted" };

// Targets ------------------------------------------------------------------------------------

export function targets({ targets, disks }) {
  return [
    head("Targets", button("New target…", newTarget, { kind: "main" })),
    targets.length === 0 && h("p", { class: "faint" }, "There are no targets yet."),
    targets.map((target) => h("section", { class: "card", "aria-label": target.name },
      h("div", { class: "head" }, h("h3", { class: "name" }, target.name),
        button("Add LUN…", () => addLun(target, disks), { about: target.name }),
        button("Allow…", () => allow(target), { about: target.name }),
        button("Delete…", () => confirm("Delete", `Target ${target.name} is removed.`,
          () => call("DELETE", ["targets", target.name]), true), { about: target.name, kind: "danger" })),
      facts([["Alias", target.alias], ["Sessions", String(target.sessions)]]),
      table(`LUNs of ${target.name}`, ["LUN", "Disk", "Actions"], target.luns.map((lun) => h("tr", null,
        h("td", { class: "number" }, String(lun.lun)), h("td", { class: "name" }, lun.disk_name),
        h("td", { class: "actions" }, button("Take away…", () => confirm("Take away",
          `LUN ${lun.lun} (${lun.disk_name}) is taken away from initiators that use it.`,
          () => call("DELETE", ["targets", target.name, "luns", String(lun.lun)]), true), { about: `LUN ${lun.lun}` })))), "It has no LUNs."),
      access(target))),
  ];
}

function access(target) {
  if (target.access === null) return h("p", null, "Everybody may use it.");
  const open = button("Open to everybody…", () => confirm("Open to everybody", `Every initiator may use ${target.name}.`,
    () => call("PUT", ["targets", target.name, "access"], { access: null })), { about: target.name });
  if (target.access.length === 0) return [h("p", { class: "warn" }, "Nobody may use it. "), open];
  const luns = (entry) => entry.luns == null ? "all" :
    entry.luns.map((it) => `${it.seen}=${it.lun}${it.read_only ? " (read only)" : ""}`).join(", ");
  return [
    table(`Who may use ${target.name}`, ["Initiator", "Address", "LUNs", "Writes", "Actions"], target.access.map((entry) => h("tr", null,
      h("td", { class: "name" }, entry.initiator ?? "any"), h("td", null, entry.address ?? "any"), h("td", null, luns(entry)),
      h("td", null, entry.read_only ? "no" : "yes"),
      h("td", { class: "actions" }, button("Disallow…", () => confirm("Disallow",
        "Sessions that are not let in any more are closed at once.", () => disallow(target, entry), true),
      { about: entry.initiator ?? entry.address })))), ""),
    open,
  ];
}

async function disallow(target, entry) {
  const rest = target.access.filter((other) => other !== entry);
  await call("PUT", ["targets", target.name, "access"], { access: rest });
}

function newTarget() {
  ask("New target", [
    { name: "name", label: "Name", hint: "An iSCSI name, or a short one that gets lund's prefix." },
    { name: "alias", label: "Alias", optional: true },
  ], "Create", async ({ name, alias }) => {
    const target = await call("POST", ["targets"], { name, alias: alias ?? "" });
    return `Target ${target.name} is there.`;
  });
}

function addLun(target, disks) {
  if (disks.length === 0) return show("Add LUN", h("p", null, "There are no disks yet: make one first."));
  ask(`Add LUN to ${target.name}`, [
    { name: "disk", label: "Disk", options: disks.map((disk) => [disk.id, disk.name]) },
    lunField,
  ], "Add", async ({ disk, lun }) => {
    const mapping = await call("POST", ["targets", target.name, "luns"], { disk, lun });
    return `It is LUN ${mapping.lun}.`;
  });
}

function allow(target) {
  ask(`Allow initiators of ${target.name}`, [
    { name: "initiator", label: "Initiator", optional: true, hint: "An iSCSI name; * stands for any text." },
    { name: "address", label: "Address", optional: true, hint: "An address or a network such as 10.0.0.0/8." },
    { name: "read_only", label: "Refuse their writes", type: "checkbox" },
  ], "Allow", async ({ initiator, address, read_only }) => {
    await call("POST", ["targets", target.name, "access"], { initiator, address, read_only });
  }, { note: target.access === null ? "Everybody else is shut out by the first entry." : null });
}

// Sessions -----------------------------------------------------------------------------------

export function sessions({ sessions }) {
  return [
    head("Sessions"),
    table("Sessions", ["TSIH", "Initiator", "Target", "From", "Commands", "Read", "Written", "Actions"], sessions.map((session) => h("tr", null,
      h("td", { class: "number" }, String(session.tsih)),
      h("th", { scope: "row", class: "name" }, session.initiator),
      h("td", { class: "name" }, session.target ?? "(discovery)"),
      h("td", null, session.address),
      h("td", { class: "number" }, String(session.commands)),
      h("td", { class: "number" }, size(session.read_bytes)),
      h("td", { class: "number" }, size(session.written_bytes)),
      h("td", { class: "actions" },
        button("Details…", () => details(session), { about: `session ${session.tsih}` }),
        button("End…", () => confirm("End session", `What ${session.initiator} has begun is answered, then its session ends. It may log in again.`,
          () => call("DELETE", ["sessions", String(session.tsih)]), true), { about: `session ${session.tsih}`, kind: "danger" })))),
    "No initiator is logged in."),
  ];
}

async function details({ tsih }) {
  const it = await get("sessions", String(tsih));
  const [connection] = it.connections;
  const proof = it.authentication.method === "chap"
    ? `CHAP, ${it.authentication.algorithm}, ${it.authentication.mutual ? "mutual" : "one-way"}, as ${it.authentication.user}` : "none";
  show(`Session ${tsih}`, facts([
    ["Initiator", it.initiator], ["Alias", it.initiator_alias], ["Target", it.target], ["Since", time(it.since)],
    ["Authentication", proof], ["From", connection?.address], ["To", connection?.portal],
    ["Header digest", connection?.header_digest ? "CRC32C" : "none"], ["Data digest", connection?.data_digest ? "CRC32C" : "none"],
    ["Outstanding commands", String(it.outstanding_commands)],
    ["Commands", `${it.counters.read_commands} read, ${it.counters.write_commands} write, ${it.commands} in all`],
    ["PDUs", `${it.counters.pdus_received} received, ${it.counters.pdus_sent} sent`],
    ["Rejects", String(it.counters.rejects)], ["Digest errors", String(it.counters.data_digest_errors)],
  ]));
}

// Jobs ---------------------------------------------------------------------------------------

const FAILED = ["Exception", "Killed", "Terminated"];

export function jobs({ jobs }) {
  const newest = [...jobs].sort((a, b) => b.time_submitted.localeCompare(a.time_submitted));
  return [
    head("Jobs and faults"),
    table("Jobs and faults", ["Job", "State", "Progress", "Begun", "Took", "Actions"], newest.map((job) => h("tr", null,
      h("th", { scope: "row", class: "name" }, job.name, job.occurrences > 1 && h("span", { class: "faint" }, ` (${job.occurrences} times)`),
        compared(job) && h("div", { class: "faint" }, compared(job))),
      h("td", { class: job.state === "Completed" ? "good" : FAILED.includes(job.state) ? "bad" : "" }, job.state),
      h("td", null, job.kind === "data-path-fault" ? "" :
        [h("progress", { max: 100, value: job.percent_complete, "aria-label": `Progress of ${job.name}` }), ` ${job.percent_complete} %`]),
      h("td", null, time(job.start_time ?? job.time_submitted)),
      h("td", { class: "number" }, duration(job.elapsed_ms)),
      h("td", { class: "actions" },
        job.errors.length > 0 && button("Why…", () => show(job.name, job.errors.flatMap(explain).filter(Boolean)), { about: job.name }),
        !job.ended && button("Cancel…", () => confirm("Cancel job", `${job.name}: what it did is undone.`,
          () => call("POST", ["jobs", job.id, "cancel"], {}), true), { about: job.name }),
        job.ended && button("Remove", () => call("DELETE", ["jobs", job.id]).catch((error) => say(error.message)), { about: job.name })))),
    "There are no jobs, and there were no faults."),
  ];
}
