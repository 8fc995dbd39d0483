// Snapshots as trees: which one was taken of what, what was made of it, and what each holds.

import { call, getOf } from "./api.js";
import { checkSnapshot } from "./checks.js";
import { ask, confirm, show } from "./dialogs.js";
import { button, facts, h, head, size, time } from "./dom.js";
import { cloneDisk } from "./views.js";

/** The trees: a disk, its snapshots, and the disks that lie over them. Where images do not lie over
 *  each other nobody knows what was made of what, and snapshots stand in the order of time. */
function trees(disks, snapshots) {
  return disks.map((disk) => {
    const own = snapshots.filter((it) => it.disk === disk.id).sort((a, b) => a.created.localeCompare(b.created));
    const nodes = own.map((snapshot) => ({ snapshot, children: [] }));
    const byId = new Map(nodes.map((node) => [node.snapshot.id, node]));
    const now = { disk, children: [] };
    const roots = [];
    let before;
    for (const node of nodes) {
      const parent = byId.get(node.snapshot.parent) ?? before;
      (parent ? parent.children : roots).push(node);
      if (!node.snapshot.parent) before = node;
    }
    const under = byId.get(disk.parent) ?? nodes.at(-1);
    (under ? under.children : roots).push(now);
    for (const other of disks.filter((it) => it !== disk && byId.has(it.parent))) {
      byId.get(other.parent).children.unshift({ disk: other, children: [] });
    }
    return { disk, own, roots };
  }).filter((tree) => tree.own.length > 0);
}

export function snapshots({ snapshots, disks }) {
  const all = trees(disks, snapshots);
  return [
    head("Snapshots", button("New snapshot…", () => newSnapshot(disks), { kind: "main" })),
    all.length === 0 && h("p", { class: "faint" }, "There are no snapshots yet."),
    all.map(({ disk, own, roots }) => h("section", { class: "card", "aria-label": `Snapshots of ${disk.name}` },
      h("div", { class: "head" }, h("h3", { class: "name" }, disk.name),
        button("Snapshot…", () => newSnapshot([disk]), { about: disk.name }),
        button("Clone…", () => cloneDisk(disk), { about: disk.name })),
      h("ul", { class: "tree" }, roots.flatMap((root) => branch(root, disk, own))))),
  ];
}

/** A line of descent stands in one list; what leaves it stands further in. */
function branch(node, disk, own) {
  const items = [];
  for (let at = node; at; at = at.children.at(-1)) {
    const aside = at.children.slice(0, -1);
    items.push(h("li", null, at.snapshot ? snapshotLine(at.snapshot, own) : diskLine(at.disk, disk),
      aside.length > 0 && h("ul", { class: "tree" }, aside.flatMap((it) => branch(it, disk, own)))));
  }
  return items;
}

function diskLine(disk, of) {
  const what = disk === of ? "as it is now" : "a disk that lies over it";
  return h("div", { class: "node" }, h("strong", { class: "name" }, disk.name), h("span", { class: "faint" }, ` ${what}, ${size(disk.size_bytes)}`,
    disk.allocated_bytes == null ? "" : `, holds ${size(disk.allocated_bytes)}`));
}

function snapshotLine(it, own) {
  const key = `${it.disk_name}@${it.name}`;
  const before = own[own.indexOf(it) - 1];
  const grown = before ? it.size_bytes - before.size_bytes : 0;
  return h("div", { class: "node" },
    h("div", null, h("span", { class: "name" }, key), h("span", { class: "faint" }, ` ${time(it.created)}, ${size(it.size_bytes)}`,
      grown === 0 ? "" : ` (${grown > 0 ? "+" : "−"}${size(Math.abs(grown))})`,
      it.allocated_bytes == null ? "" : `, holds ${size(it.allocated_bytes)}`)),
    h("div", { class: "actions" },
      button("Changes…", () => changes(it, key, own), { about: key }),
      button("Make a disk…", () => exposeSnapshot(it, key), { about: key }),
      button("Check…", () => checkSnapshot(it, key), { about: key }),
      button("Roll back…", () => confirm(`Roll back to ${key}`, `Everything that was written to ${it.disk_name} since then is lost.`,
        () => call("POST", ["snapshots", it.id, "rollback"], {}), true), { about: key, kind: "danger" }),
      button("Delete…", () => confirm(`Delete ${key}`, "The disk stays as it is.",
        () => call("DELETE", ["snapshots", it.id]), true), { about: key, kind: "danger" })));
}

/** So many pages of changes are added up, each of 10,000 places. */
const PAGES = 20;

async function changed(path, since) {
  let bytes = 0, next = 0;
  for (let page = 0; page < PAGES && next != null; page += 1) {
    const found = await getOf(path, { since, offset: next, limit: 10000 });
    bytes += found.extents.reduce((sum, it) => sum + it.length, 0);
    next = found.next;
  }
  return `${next == null ? "" : "more than "}${size(bytes)}`;
}

async function changes(it, key, own) {
  const before = own[own.indexOf(it) - 1];
  const since = h("span", null, "…"), earlier = h("span", null, before ? "…" : "");
  show(`Changes around ${key}`, facts([
    before && [`From ${before.name} to it`, earlier],
    [`From it to ${it.disk_name} now`, since],
  ].filter(Boolean)));
  const tell = async (place, path, from) => {
    try {
      place.textContent = await changed(path, from);
    } catch (error) {
      place.textContent = error.message;
    }
  };
  await Promise.all([
    before && tell(earlier, ["snapshots", it.id, "changes"], before.id),
    tell(since, ["disks", it.disk, "changes"], it.id),
  ]);
}

function newSnapshot(disks) {
  if (disks.length === 0) return show("New snapshot", h("p", null, "There are no disks yet: make one first."));
  ask("New snapshot", [
    { name: "disk", label: "Disk", options: disks.map((disk) => [disk.id, disk.name]) },
    { name: "name", label: "Name" },
  ], "Take", async ({ disk, name }) => call("POST", ["snapshots"], { disks: [disk], name }));
}

function exposeSnapshot(snapshot, key) {
  ask(`Make a disk of ${key}`, [
    { name: "name", label: "Name" },
    { name: "read_only", label: "Writes to it are refused", type: "checkbox" },
    { name: "linked", label: "It lies over the snapshot", type: "checkbox", hint: "Made at once; the snapshot stays as long as the disk does." },
  ], "Make", async ({ name, read_only, linked }) => call("POST", ["snapshots", snapshot.id, "expose"], { name, read_only, linked }));
}
