// A browser does what an operator would: makes a disk and watches its job, makes it larger, exposes
// it, sees a session, provokes a failure and reads why. Every view is accessible and small.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const { LUND_PAGE: page_url, LUNCTL: lunctl, CHROMIUM: executablePath, PICTURES: pictures } = process.env;
const password = "correct horse battery";
const VIEWS = ["overview", "disks", "snapshots", "targets", "sessions", "jobs", "accounts", "settings"];
const say = (text) => console.log(`web: ${text}`);

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu",
  "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"] });
const context = await browser.newContext({ bypassCSP: false, viewport: { width: 1200, height: 800 } });
const page = await context.newPage();
page.setDefaultTimeout(30000);
const complaints = [];
const bodies = [];
page.on("console", (message) => { if (["error", "warning"].includes(message.type())) complaints.push(message.text()); });
page.on("pageerror", (error) => complaints.push(String(error)));
page.on("request", (request) => assert.ok(request.url().startsWith(page_url) || request.url() === "data:,", request.url()));
page.on("response", (response) => { if (!response.url().includes("/api/")) bodies.push(response.body().catch(() => "")); });
process.on("uncaughtException", (error) => { console.error(error, complaints); process.exit(1); });

const view = async (name) => {
  await page.getByRole("navigation").getByRole("link", { name: new RegExp(`^${name}$`, "i") }).click();
  await page.getByRole("heading", { level: 2, name: new RegExp(`^${name}`, "i") }).waitFor();
};
const dialog = page.getByRole("dialog");
const row = (text) => page.getByRole("row").filter({ hasText: text });

/** No serious or critical finding of axe. */
async function accessible(where) {
  // Not as a script of the page: its policy would refuse that, rightly.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  const serious = violations.filter((it) => ["serious", "critical"].includes(it.impact));
  assert.deepEqual(serious.map((it) => [it.id, it.nodes.map((node) => node.html)]), [], where);
}

async function picture(name) {
  if (pictures) await page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
}

await page.goto(page_url);
await page.getByText("Initiators are served").waitFor();
const weight = (await Promise.all(bodies)).reduce((sum, body) => sum + body.length, 0);
assert.ok(weight > 20_000 && weight < 300 * 1024, `${weight} bytes`);
say(`the page loads with ${weight} bytes, and nothing from elsewhere`);

await view("disks");
await page.getByRole("button", { name: "New disk" }).click();
await dialog.getByLabel("Name").fill("web");
await dialog.getByLabel("Size").fill("lots");
await dialog.getByRole("button", { name: "Create" }).click();
await dialog.getByText("write a number with KiB").waitFor();
await dialog.getByLabel("Size").fill("3MiB");
// With the keyboard alone.
await dialog.getByLabel("Size").press("Enter");
await row("web").getByText("3 MiB").first().waitFor();
await page.getByRole("status").getByText("Create disk web: Completed").waitFor();
await view("jobs");
await row("Create disk web").getByText("Completed").waitFor();
say("a disk is made, and its job is followed to its end");

await view("disks");
await page.getByRole("button", { name: "Grow web" }).click();
await dialog.getByLabel("Size").fill("1MiB");
await dialog.getByRole("button", { name: "Grow" }).click();
await dialog.getByText("can only grow").waitFor();
await dialog.getByLabel("Size").fill("8MiB");
await dialog.getByRole("button", { name: "Grow" }).click();
await row("web").getByText("8 MiB").first().waitFor();
say("it grows");

await view("targets");
await page.getByRole("button", { name: "New target" }).click();
await dialog.getByLabel("Name").fill("from-the-page");
await dialog.getByRole("button", { name: "Create" }).click();
const target = page.getByRole("region", { name: "iqn.2026-01.io.lund:from-the-page", exact: true });
await target.getByRole("button", { name: /^Add LUN/ }).click();
await dialog.getByLabel("Disk").selectOption({ label: "web" });
await dialog.getByRole("button", { name: "Add" }).click();
await target.getByRole("row").filter({ hasText: "web" }).waitFor();
await target.getByRole("button", { name: /^Allow/ }).click();
await dialog.getByLabel("Initiator").fill("iqn.2001-04.com.example:*");
await dialog.getByRole("button", { name: "Allow" }).click();
await target.getByText("iqn.2001-04.com.example:*").waitFor();
await target.getByRole("button", { name: /^Open to everybody/ }).click();
await dialog.getByRole("button", { name: "Open to everybody" }).click();
await target.getByText("Everybody may use it.").waitFor();
say("a target is made, the disk is exposed, access is narrowed and opened");

await view("sessions");
await row("iqn.2008-11.org.linux-kvm").getByRole("button", { name: "Details" }).click();
await dialog.getByText("Outstanding commands").waitFor();
await accessible("details of a session");
await picture("session");
await page.keyboard.press("Escape");
say("QEMU's session and its details are seen");

await view("disks");
await page.getByRole("button", { name: "New disk" }).click();
await dialog.getByLabel("Name").fill("too-large");
await dialog.getByLabel("Size").fill("4000TiB");
await accessible("a form");
await dialog.getByRole("button", { name: "Create" }).click();
await view("jobs");
await row("too-large").getByText("Exception").waitFor();
await page.getByRole("button", { name: /^Why.*too-large/ }).click();
await dialog.getByText("What can be done").waitFor();
assert.match(await dialog.innerText(), /capacity[\s\S]*ISCT-STG-001/);
await accessible("an error");
await picture("error");
await dialog.getByRole("button", { name: "Close" }).click();
say("a job that fails tells why, and what can be done");

await view("snapshots");
await page.getByText("There are no snapshots yet.").waitFor();
await page.getByRole("button", { name: "New snapshot" }).click();
await dialog.getByLabel("Disk").selectOption({ label: "web" });
await dialog.getByLabel("Name").fill("monday");
await dialog.getByRole("button", { name: "Take" }).click();
await view("jobs");
const taken = row("Take snapshot monday of web");
await taken.getByText(/Completed|Exception/).waitFor();
// A file system that shares no blocks cannot, and the job says so.
if (await taken.getByText("Completed").count() === 0) {
  await page.getByRole("button", { name: /^Why.*monday/ }).click();
  await dialog.getByText("What can be done").waitFor();
  await dialog.getByRole("button", { name: "Close" }).click();
  say("a snapshot cannot be taken here, and its job tells why not");
} else {
  await view("snapshots");
  const tree = page.getByRole("region", { name: "Snapshots of web", exact: true });
  const node = (text) => tree.getByRole("listitem").filter({ hasText: text });
  // With the keyboard alone.
  await tree.getByRole("button", { name: "Snapshot web", exact: true }).focus();
  await page.keyboard.press("Enter");
  await dialog.getByLabel("Name").fill("tuesday");
  await page.keyboard.press("Enter");
  await tree.getByRole("button", { name: "Changes web@tuesday" }).click();
  await dialog.getByText("From monday to it").waitFor();
  // Nobody has written anything.
  await dialog.getByText("0 bytes").nth(1).waitFor();
  await accessible("what has changed");
  await dialog.getByRole("button", { name: "Close" }).click();
  await tree.getByRole("button", { name: "Make a disk web@monday" }).click();
  await dialog.getByLabel("Name").fill("look");
  await dialog.getByLabel("It lies over the snapshot").check();
  await dialog.getByRole("button", { name: "Make" }).click();
  await node("a disk that lies over it").first().waitFor();
  await tree.getByRole("button", { name: "Clone web", exact: true }).click();
  await dialog.getByLabel("Name of the copy").fill("copy");
  await dialog.getByRole("button", { name: "Clone" }).click();
  await page.getByRole("status").getByText("Clone disk web as copy: Completed").waitFor();
  await tree.getByRole("button", { name: "Roll back web@monday" }).click();
  await dialog.getByRole("button", { name: "Roll back to web@monday" }).click();
  await page.getByRole("status").getByText(/Roll.*web.*: Completed/).waitFor();
  // What stands below it was taken of what came after.
  await picture("tree");
  await tree.getByRole("button", { name: "Delete web@tuesday" }).click();
  await dialog.getByRole("button", { name: "Delete web@tuesday" }).click();
  await node("web@tuesday").first().waitFor({ state: "detached" });
  await node("web@monday").first().waitFor();
  say("snapshots stand as a tree: one is taken, compared, made a disk, cloned, gone back to, deleted");
}

await view("disks");
await page.getByRole("button", { name: "New disk" }).click();
await dialog.getByLabel("Name").fill("kept");
await dialog.getByLabel("Size").fill("1MiB");
await dialog.getByRole("button", { name: "Create" }).click();
await page.getByRole("status").getByText("Create disk kept: Completed").waitFor();
for (const found of ["checksums of its data are kept", "its data are those of"]) {
  await page.getByRole("button", { name: "Check kept" }).click();
  await dialog.getByLabel("Keep checksums").check();
  await accessible("the form of a check");
  await dialog.getByRole("button", { name: "Check", exact: true }).click();
  await page.getByRole("status").getByText(`Completed: ${found}`).waitFor();
}
await view("jobs");
await row("its data are those of").getByText("Completed").waitFor();
say("a disk is checked, and its data are compared with checksums");

await view("disks");
await page.getByRole("button", { name: "Delete web" }).click();
await dialog.getByLabel("Write its name").fill("web");
await dialog.getByRole("button", { name: "Delete" }).click();
await dialog.getByText(/in use/).waitFor();
await page.keyboard.press("Escape");
say("a disk that is exposed is not deleted, and the page says so");

await view("settings");
await page.getByRole("button", { name: "Limit a disk" }).click();
await dialog.getByLabel("Disk").selectOption({ label: "web" });
await dialog.getByLabel("Commands a second").fill("500");
await dialog.getByRole("button", { name: "Limit", exact: true }).click();
await row("web").getByText("500/s").waitFor();
await page.getByRole("button", { name: "Lift web" }).click();
await dialog.getByRole("button", { name: /^Lift/ }).click();
await page.getByText("Nobody is limited.").waitFor();
// With the keyboard alone.
await page.getByRole("button", { name: "Change what jobs may do" }).focus();
await page.keyboard.press("Enter");
await dialog.getByLabel("Bytes a second").waitFor();
await page.keyboard.type("100MiB");
await page.keyboard.press("Enter");
await page.getByText("at most 100 MiB a second").waitFor();
say("a disk is limited and let go, jobs are slowed down");

await view("accounts");
await page.getByText("There are no users: nobody is asked").waitFor();
await page.getByRole("button", { name: "New token" }).click();
await dialog.getByLabel("Name").fill("backup");
await dialog.getByRole("button", { name: "Make" }).click();
await dialog.getByText("It is not told again").waitFor();
await accessible("a token's secret");
await dialog.getByRole("button", { name: "Close" }).click();
await row("backup").getByText("viewer").waitFor();
await page.getByRole("region", { name: "Audit log" }).getByText("POST /api/v1/tokens").waitFor();
await page.getByRole("button", { name: "New CHAP account" }).click();
await dialog.getByLabel("User").fill("bob");
await dialog.getByLabel("Secret").fill("short");
await dialog.getByLabel("Targets").fill("from-the-page");
await dialog.getByRole("button", { name: "Make" }).click();
await dialog.getByText("must have 12 to 255").waitFor();
await dialog.getByLabel("Secret").fill("twelve bytes or more");
await dialog.getByRole("button", { name: "Make" }).click();
await row("bob").getByText("from-the-page").waitFor();
say("a token is made and told once, a CHAP account is made, the audit log has it");

for (const colorScheme of ["light", "dark"]) {
  for (const [device, width] of [["wide", 1200], ["phone", 390]]) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height: 800 });
    for (const name of VIEWS) {
      await view(name);
      await accessible(`${name}, ${colorScheme}, ${device}`);
      const beyond = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(beyond <= 0, `${name} is ${beyond} pixels wider than a ${device}`);
      await picture(`${name}-${colorScheme}-${device}`);
    }
  }
}
say("every view is accessible, in light and dark, on a wide screen and on a phone");

await page.emulateMedia({ colorScheme: "light" });
await page.setViewportSize({ width: 1200, height: 800 });
await page.getByText("Nobody is asked for a password yet").waitFor();
execFileSync(lunctl, ["--server", page_url, "user", "add", "anna", "--role", "operator", "--password-file", "-"], { input: password });
execFileSync(lunctl, ["--server", page_url, "user", "add", "root", "--role", "administrator", "--password-file", "-"], { input: password });
const user = page.getByRole("main").getByLabel("User"), secret = page.getByRole("main").getByLabel("Password");
await user.waitFor();
for (const colorScheme of ["light", "dark"]) {
  await page.emulateMedia({ colorScheme });
  await accessible(`the form to sign in, ${colorScheme}`);
  await picture(`sign-in-${colorScheme}`);
}
// With the keyboard alone: the form has the focus.
await page.keyboard.type("anna");
await page.keyboard.press("Tab");
await page.keyboard.type("not the password");
await page.keyboard.press("Enter");
await page.getByText("is wrong").waitFor();
await page.keyboard.type(password);
await page.keyboard.press("Enter");
await page.getByText("anna, operator").waitFor();
await view("disks");
await page.getByRole("button", { name: "New disk" }).click();
await dialog.getByLabel("Name").fill("signed-in");
await dialog.getByLabel("Size").fill("1MiB");
await dialog.getByRole("button", { name: "Create" }).click();
await row("signed-in").getByText("1 MiB").first().waitFor();
await accessible("signed in");
await view("accounts");
await page.getByText("are for administrators").waitFor();
await page.reload();
await page.getByText("anna, operator").waitFor();
await page.getByRole("button", { name: "Sign out" }).click();
await user.waitFor();
say("the first administrator closes the page; one signs in, changes something and signs out");

const refused = complaints.filter((text) => !/status of (400|401|409)/.test(text));
assert.deepEqual(refused, []);
await browser.close();
