// The whole journey of one person in a real browser, against a running hub:
//   SIGN_IN_URL=http://localhost:8000/sign-in/link?token=... node end-to-end.mjs SCREENSHOTS
// Sign in, launch, watch the five steps, work in JupyterLab, stop, start, find the file, delete; then
// the administrator's pages. Every page of the hub is taken in all shapes and asked by axe.
import { mkdir, readFile, readdir } from "node:fs/promises";
import path from "node:path";
import { Findings, inspect, launchBrowser, watch } from "./browser.mjs";
import * as notebook from "./notebook.mjs";

const [screenshots] = process.argv.slice(2);
if (!process.env.SIGN_IN_URL || !screenshots) {
  console.error("use: SIGN_IN_URL=http://... node end-to-end.mjs SCREENSHOTS");
  process.exit(2);
}
const hub = new URL(process.env.SIGN_IN_URL).origin;
const CELL_MS = notebook.PATIENCE.cell;
const NAME = "Browser test <b>1</b>";

const findings = new Findings();
const began = performance.now();
const say = (what) => console.log(`${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s  ${what}`);

await mkdir(screenshots, { recursive: true });
const browser = await launchBrowser();
const context = await browser.newContext({ acceptDownloads: true });
const page = await context.newPage();
page.setDefaultTimeout(30_000);

// What JupyterLab writes to the console is its own affair; so is a status that is asked for on purpose.
let expectedStatus = "";
const onHub = {
  add: (where, what) => {
    if (new URL(page.url()).origin === hub && !(expectedStatus && what.includes(expectedStatus))) findings.add(where, what);
  },
};
let current = "sign-in";
watch(page, onHub, () => current);

async function look(name) {
  current = name;
  await inspect(page, name, screenshots, findings);
  say(`looked at ${name}`);
}

async function visit(location, name) {
  current = name;
  const answer = await page.goto(hub + location);
  findings.check(name, answer.status() === 200, `answered ${answer.status()}`);
  await look(name);
}

const followLaunch = () =>
  notebook.followLaunch(page, hub, (name) => page.screenshot({ path: path.join(screenshots, `${name}.png`), fullPage: true }));
const openNotebook = () => notebook.openNotebook(page);
const run = (code, output) => notebook.run(page, code, output);
const read = (name) => notebook.read(page, name);

async function save() {
  await page.keyboard.press("Control+s");
  // JupyterLab asks for a name when a notebook is saved for the first time.
  const rename = page.locator(".jp-Dialog button.jp-mod-accept");
  await rename.click({ timeout: 5000 }).catch(() => {});
  await page.locator(".jp-mod-dirty").waitFor({ state: "detached", timeout: CELL_MS });
}

/** The hub's process of this CUBICLE_HOME. */
async function hubProcess() {
  for (const entry of await readdir("/proc")) {
    if (!/^[0-9]+$/.test(entry)) continue;
    try {
      const [command, environment] = await Promise.all([readFile(`/proc/${entry}/cmdline`), readFile(`/proc/${entry}/environ`)]);
      if (command.includes("internal-hub") && environment.includes(`CUBICLE_HOME=${process.env.CUBICLE_HOME}\0`)) return Number(entry);
    } catch {
      // It has ended meanwhile.
    }
  }
  throw new Error("the hub's process was not found");
}

/** Waits until the condition gives something true. */
async function until(what, condition, seconds) {
  const deadline = performance.now() + seconds * 1000;
  while (!(await condition().catch(() => false))) {
    if (performance.now() > deadline) throw new Error(`${what} did not happen within ${seconds} s`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/** Launches a template from the gallery and waits until its notebook server shows in the tab; returns its id. */
async function launchFromGallery(template, name) {
  const card = notebook.card(page, template);
  await card.locator("input[name=name]").fill(name);
  await card.locator("button").click();
  const seen = await followLaunch();
  return { workspace: new URL(page.url()).hostname.split(".")[0], seen };
}

try {
  await visit("/sign-in", "sign-in");
  expectedStatus = "status of 40";
  await page.fill("#name", "nobody");
  await page.fill("#password", "wrong-password");
  await page.click("main button");
  await page.waitForSelector("[role=alert]");
  await look("sign-in-error");
  expectedStatus = "";

  current = "sign-in-link";
  await page.goto(process.env.SIGN_IN_URL);
  await look("sign-in-link");
  await page.click("main button");
  await page.waitForSelector("#gallery");
  await look("home-empty");

  current = "launch";
  const { workspace, seen } = await launchFromGallery("jupyterlab", NAME);
  const origin = new URL(page.url()).origin;
  say(`opened ${origin}; saw ${[...seen].join(", ")}`);
  findings.check(current, origin === hub.replace(/\/\/[^:/]+/, `//${workspace}.localhost`), `opened at ${origin}`);
  for (const step of ["request", "plan", "build", "prove", "open"]) {
    findings.check(current, [...seen].some((state) => state.startsWith(`${step} `)), `step ${step} was not shown`);
  }
  findings.check(current, seen.has("prove done") || seen.has("open running"), "no step was seen to be done");

  current = "notebook";
  await openNotebook();
  await run('print("walls", 6 * 7)', ':has-text("walls 42")');
  await run('import pandas\nprint("sum", pandas.DataFrame({"a": [1, 2, 3]})["a"].sum())', ':has-text("sum 6")');
  await run("import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()", " img");
  await run('print("written", open("kept.txt", "w").write("kept"))', ':has-text("written 4")');
  await page.screenshot({ path: path.join(screenshots, "notebook.light.png") });
  findings.check(current, (await read("kept.txt")) === "kept", "the file was not written");
  const cookies = await page.evaluate(() => document.cookie);
  findings.check(current, !/session/i.test(cookies), "a script in the workspace reads a session cookie");
  say("worked in JupyterLab");

  current = "hub killed";
  await run('kept = 41\nprint("set", kept)', ':has-text("set 41")');
  const killed = await hubProcess();
  process.kill(killed, "SIGKILL");
  await until("another hub", async () => (await hubProcess()) !== killed && (await fetch(`${hub}/healthz`)).ok, 30);
  // Neither reloaded nor signed in again: the tab finds its kernel by itself.
  await run('print("still", kept + 1)', ':has-text("still 42")');
  // Unsaved, JupyterLab would ask before the page is left.
  await save();
  say("the hub was killed; the open tab went on with the same kernel");

  await visit("/", "home");
  await visit(`/workspaces/${workspace}`, "workspace");
  const steps = await page.$$eval("[data-step]", (all) => all.map((step) => `${step.dataset.step} ${step.dataset.state}`));
  for (const step of ["request", "plan", "build", "prove", "open"]) {
    findings.check(current, steps.includes(`${step} done`), `step ${step} is not done: ${steps.join(", ")}`);
  }
  await visit(`/workspaces/${workspace}/isolation`, "isolation");
  const held = await page.locator(".guarantee:has(summary .badge.good)").count();
  findings.check(current, held >= 45, `only ${held} guarantees held`);
  await page.evaluate(() => document.querySelectorAll("details").forEach((one) => (one.open = true)));
  const bare = await page.locator(".guarantee:has(summary .badge.good):not(:has(.evidence li))").count();
  findings.check(current, bare === 0, `${bare} guarantees are held without evidence`);
  await look("isolation-all-open");
  await visit(`/workspaces/${workspace}/isolation?verdict=not_claimed`, "isolation-not-claimed");
  findings.check(current, (await page.locator(".guarantee:has(summary .badge.good)").count()) === 0, "the filter shows others");
  await page.goto(`${hub}/workspaces/${workspace}/isolation`);
  const before = await page.locator(".proof time").getAttribute("datetime");
  await page.click("text=Prove again now", { timeout: 120_000 });
  await page.waitForFunction((old) => document.querySelector(".proof time")?.getAttribute("datetime") !== old, before, {
    timeout: 120_000,
  });
  await look("isolation-proven-again");
  const download = page.waitForEvent("download");
  await page.click("text=Download as JSON");
  const stream = await (await download).createReadStream();
  const report = JSON.parse(Buffer.concat(await stream.toArray()).toString());
  findings.check(current, report.workspace === workspace && report.summary.breached === 0, "the report is another's or breached");

  current = "stop";
  await page.goto(hub);
  await page.click("form[action$='/stop'] button");
  await page.waitForSelector(".badge:has-text('stopped')", { timeout: 60_000 });
  await visit(`/workspaces/${workspace}`, "workspace-stopped");
  expectedStatus = "status of";
  await page.goto(origin);
  await page.waitForSelector("text=Go to Cubicle");
  await look("not-running");
  expectedStatus = "";
  say("stopped");

  current = "start";
  await page.goto(`${hub}/workspaces/${workspace}`);
  await page.click("form[action$='/start'] button");
  await followLaunch();
  await page.waitForSelector("#jp-main-dock-panel", { timeout: CELL_MS });
  findings.check(current, (await read("kept.txt")) === "kept", "the file is not there after stop and start");
  say("started again; the file is there");

  const asAdministrator = [
    ["/admin/workspaces", "admin-workspaces"],
    ["/admin/workspaces?search=nothing-like-it", "admin-workspaces-none"],
    ["/admin/users", "admin-users"],
    ["/admin/templates", "admin-templates"],
    ["/admin/templates/jupyterlab", "admin-template"],
    ["/admin/machine", "admin-machine"],
    ["/account", "account"],
  ];
  for (const [location, name] of asAdministrator) await visit(location, name);

  current = "idle tab";
  await page.goto(`${hub}/admin/templates`);
  await page.fill(
    "#yaml",
    "apiVersion: cubicle.dev/v1alpha1\nkind: Template\nmetadata: {name: short}\nspec: {image: jupyterlab, idle: {after: 30s, maxBusy: 1h}}\n",
  );
  await page.click("text=Apply");
  await page.waitForSelector("text=short");
  await page.goto(hub);
  const { workspace: idle } = await launchFromGallery("short", "Left open");
  // JupyterLab opens the notebook of the home again, with a kernel.
  await page.waitForSelector("#jp-main-statusbar >> text=/ \\| Idle/", { timeout: CELL_MS });
  // From here on nobody touches the tab; JupyterLab goes on asking by itself.
  await until("the stop of an idle open tab", async () => (await (await context.request.get(`${hub}/api/v1/workspaces/${idle}`)).json()).state === "stopped", 120);
  await page.goto(`${hub}/workspaces/${idle}`);
  findings.check(current, (await page.locator("main").innerText()).includes("idle"), "its page does not say why it was stopped");
  await look("workspace-idle");
  await page.goto(`${hub}/workspaces/${idle}/delete`);
  await page.click("main button");
  await page.waitForSelector("#gallery");
  say("an idle open tab was stopped");

  current = "add a user";
  await page.goto(`${hub}/admin/users`);
  const person = `grace-${Date.now() % 100000}`;
  await page.fill("#user-name", person);
  await page.click("text=Add");
  const link = await page.locator(".secret").innerText();
  await look("admin-users-link");
  findings.check(current, link.startsWith(hub), `the link is ${link.split("?")[0]}`);
  const other = await browser.newContext();
  const stranger = await other.newPage();
  await stranger.goto(link);
  await stranger.click("main button");
  await stranger.waitForSelector("#gallery");
  const foreign = await stranger.goto(`${hub}/workspaces/${workspace}`);
  findings.check(current, foreign.status() === 404 || foreign.status() === 403, `a stranger gets ${foreign.status()}`);
  const door = await stranger.goto(origin);
  findings.check(current, door.status() >= 400 || new URL(stranger.url()).origin === hub, "a stranger enters the workspace");
  await other.close();
  say("a second person sees nothing of the first");

  current = "bad template";
  expectedStatus = "status of 4";
  await page.goto(`${hub}/admin/templates`);
  await page.fill("#yaml", "kind: Template\n<script>alert(1)</script>");
  await page.click("text=Apply");
  await page.waitForSelector("[role=alert]");
  await look("admin-template-problem");
  const lost = await page.goto(`${hub}/nothing/here`);
  findings.check("problem", lost.status() === 404, `answered ${lost.status()}`);
  await look("problem");
  expectedStatus = "";

  current = "delete";
  await page.goto(hub);
  await page.click(`a[href='/workspaces/${workspace}/delete']`);
  await look("delete");
  await page.check("#volume");
  await page.click("main button");
  await page.waitForSelector("#gallery", { timeout: 60_000 });
  findings.check(current, (await page.locator(`a[href='/workspaces/${workspace}']`).count()) === 0, "it is still listed");
  await page.click("text=Sign out");
  await page.waitForURL("**/sign-in**");
  say("deleted and signed out");
} catch (error) {
  findings.add(current, error.message);
  await page.screenshot({ path: path.join(screenshots, "where-it-ended.png"), fullPage: true }).catch(() => {});
} finally {
  await browser.close();
}
process.exitCode = findings.end("end to end") ? 0 : 1;
