// Checks: whether disks and snapshots are whole, can be read, and hold what they did.

import { call } from "./api.js";
import { ask } from "./dialogs.js";

const checksums = { name: "checksums", label: "Keep checksums", type: "checkbox",
  hint: "If there are none that hold: every later check compares the data with them, until somebody writes." };

export function checkDisk(disk) {
  ask(`Check ${disk.name}`, [
    checksums,
    { name: "repair", label: "Free what is lost in a qcow2 image", type: "checkbox" },
  ], "Check", async ({ checksums, repair }) => call("POST", ["disks", disk.id, "check"], { checksums, repair }),
  { note: "Its tables and all of its data are read, while initiators use it." });
}

export function checkSnapshot(snapshot, key) {
  ask(`Check ${key}`, [checksums], "Check",
    async ({ checksums }) => call("POST", ["snapshots", snapshot.id, "check"], { checksums }),
    { note: "Its tables and all of its data are read." });
}
