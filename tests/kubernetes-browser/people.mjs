// Two people in a real browser, against a hub in a cluster:
//   HUB=https://cubicle.example LINKS='{"alice": "https://...", "bob": "..."}' ISSUER=https://campus.example:8443 \
//     CAMPUS_ADDRESS=10.99.1.1:8443 BALANCER=127.0.0.1:18443 node people.mjs SCREENSHOTS
// Each signs in, launches, sees the five steps, works in the JupyterLab of a pod, stops, starts, and finds
// the file; neither sees anything of the other. A third one comes by way of a provider of identities. Runs on the cluster's test host, with kubectl: whoever is outside
// comes through a balancer that ends no TLS and sends every connection to another hub.
import { execFile } from "node:child_process";
import { mkdir } from "node:fs/promises";
import net from "node:net";
import path from "node:path";
import { promisify } from "node:util";
import { Findings, launchBrowser } from "../browser/browser.mjs";
import * as campus from "../browser/campus.mjs";
import * as notebook from "../browser/notebook.mjs";

const [screenshots] = process.argv.slice(2);
const { HUB, LINKS, ISSUER, BALANCER } = process.env;
if (!HUB || !LINKS || !ISSUER || !BALANCER || !screenshots) {
  console.error("use: HUB=https://... LINKS={...} ISSUER=https://... BALANCER=ADDRESS:PORT node people.mjs SCREENSHOTS");
  process.exit(2);
}
const STEPS = ["request", "plan", "build", "prove", "open"];
const PATIENCE = { launch: 240_000, cell: 180_000 };

const began = performance.now();
const say = (what) => console.log(`${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s  ${what}`);
const findings = new Findings();
const check = (truth, what) => findings.check("people", truth, what);
const command = promisify(execFile);
const kubectl = async (...words) => JSON.parse((await command("kubectl", [...words, "-o", "json"], { maxBuffer: 1 << 26 })).stdout);

/** The hubs that are ready, at their pods' addresses. */
async function hubs() {
  const slices = await kubectl("get", "endpointslices", "-n", "cubicle-system", "-l", "kubernetes.io/service-name=cubicle-hub");
  return slices.items.flatMap((slice) =>
    (slice.endpoints ?? [])
      .filter((one) => one.conditions?.ready)
      .map((one) => ({ host: one.addresses[0], port: slice.ports[0].port })),
  );
}

/** The balancer. */
async function balance() {
  let known = await hubs();
  let turn = 0;
  const refresh = setInterval(() => hubs().then((now) => (known = now), () => {}), 1000);
  refresh.unref();
  const server = net.createServer((browser) => {
    if (known.length === 0) return browser.destroy();
    turn += 1;
    const hub = net.connect(known[turn % known.length]);
    for (const [one, other] of [[browser, hub], [hub, browser]]) {
      one.on("error", () => other.destroy());
      one.on("close", () => other.destroy());
      one.pipe(other);
    }
  });
  server.unref();
  const [address, port] = BALANCER.split(":");
  await new Promise((resolve) => server.listen(Number(port), address, resolve));
}

await mkdir(screenshots, { recursive: true });
const host = new URL(HUB).hostname;
await balance();
// No other name is resolved, and the network namespace has no way out.
const campusHost = new URL(ISSUER).hostname;
const browser = await launchBrowser(
  `MAP ${host} ${BALANCER}, MAP *.${host} ${BALANCER}, MAP ${campusHost} ${process.env.CAMPUS_ADDRESS}, MAP * ~NOTFOUND`,
);

/** One person with a browser profile of their own. */
class Person {
  constructor(name, page) {
    this.name = name;
    this.page = page;
  }

  static async arrive(name) {
    // The test's certificates are its own.
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    const person = new Person(name, await context.newPage());
    person.page.setDefaultTimeout(60_000);
    return person;
  }

  static async signIn(name, link) {
    const person = await Person.arrive(name);
    await person.page.goto(link);
    await person.page.click("main button");
    await person.page.waitForSelector("#gallery");
    const cookies = await person.page.context().cookies(HUB);
    check(cookies.length > 0 && cookies.every((one) => one.name.startsWith("__Host-") && one.secure), `${name}'s cookies are ${cookies.map((one) => one.name)}`);
    return person;
  }

  shot(what) {
    return this.page.screenshot({ path: path.join(screenshots, `${this.name}-${what}.png`), fullPage: true });
  }

  follow() {
    return notebook.followLaunch(this.page, HUB, (what) => this.shot(what), PATIENCE);
  }

  async launch() {
    const { page } = this;
    await notebook.card(page, "jupyterlab").locator("button").click();
    const seen = await this.follow();
    this.origin = new URL(page.url()).origin;
    this.workspace = new URL(page.url()).hostname.split(".")[0];
    for (const step of STEPS) {
      check([...seen].some((state) => state.startsWith(`${step} `)), `${this.name}: step ${step} was not shown`);
    }
  }

  openNotebook() {
    return notebook.openNotebook(this.page, PATIENCE);
  }

  /** Runs code in the last cell and waits for this in its output. */
  run(code, output) {
    return notebook.run(this.page, code, `:has-text("${output}")`, PATIENCE);
  }

  read(name) {
    return notebook.read(this.page, name);
  }

  object() {
    return kubectl("get", "workspace", this.workspace);
  }
}

try {
  const people = [];
  for (const [name, link] of Object.entries(JSON.parse(LINKS))) {
    const person = await Person.signIn(name, link);
    await person.launch();
    say(`${name}: signed in, launched, saw the five steps; ${person.origin}`);
    await person.openNotebook();
    await person.run('print("walls", 6 * 7)', "walls 42");
    await person.run(
      'import os\nprint("kubernetes", [name for name in os.environ if "KUBERNETES" in name or "_SERVICE_" in name or "_PORT_" in name])',
      "kubernetes []",
    );
    await person.run('print("token", os.path.exists("/var/run/secrets/kubernetes.io"))', "token False");
    await person.run(`print("written", open("kept.txt", "w").write("of ${name}"))`, "written");
    check((await person.read("kept.txt")) === `of ${name}`, `${name}: the file was not written`);
    await person.shot("notebook");
    say(`${name}: a cell ran in the pod, and a file was written`);
    people.push(person);
  }

  const [alice, bob] = people;
  const namespaces = [];
  for (const person of people) namespaces.push((await person.object()).status.namespace);
  check(namespaces[0] !== namespaces[1], `both are in ${namespaces[0]}`);
  for (const person of people) {
    const { status } = await person.object();
    check(status.state === "running" && status.summary.breached === 0 && status.summary.unproven === 0, `${person.name}: ${JSON.stringify(status.summary)}`);
    check(status.summary.held > 20, `${person.name}: only ${status.summary.held} held`);
    const pod = await kubectl("get", "pod", "-n", status.namespace, person.workspace);
    check(/@sha256:[0-9a-f]{64}$/.test(pod.spec.containers[0].image), `the image is ${pod.spec.containers[0].image}`);
    check(pod.spec.hostUsers === false && pod.spec.automountServiceAccountToken === false, "the pod is not what was promised");
  }
  say(`two namespaces: ${namespaces.join(", ")}`);

  const foreign = await bob.page.goto(`${HUB}/workspaces/${alice.workspace}`);
  check(foreign.status() === 404 || foreign.status() === 403, `bob gets ${foreign.status()} for alice's workspace`);
  const door = await bob.page.goto(alice.origin);
  check(door.status() >= 400 || new URL(bob.page.url()).origin === HUB, "bob enters alice's workspace");
  say("bob sees nothing of alice's");

  await alice.page.goto(`${HUB}/workspaces/${alice.workspace}/isolation`);
  check((await alice.page.locator(".guarantee:has(summary .badge.good)").count()) > 20, "few guarantees are held");
  const before = (await alice.object()).status.verified;
  await alice.page.click("text=Prove again now", { timeout: 180_000 });
  await alice.page.waitForURL("**/isolation?done=proven", { timeout: 180_000 });
  const proven = (await alice.object()).status;
  check(proven.verified === before + 1 && proven.summary.breached === 0 && proven.summary.unproven === 0, `proven again: ${JSON.stringify(proven.summary)}`);
  await alice.shot("isolation");
  say(`alice's walls were proven again while the notebook ran: ${proven.summary.held} held`);

  await alice.page.goto(HUB);
  await alice.page.click("form[action$='/stop'] button");
  await alice.page.waitForSelector(".badge:has-text('stopped')", { timeout: 90_000 });
  check((await kubectl("get", "pods", "-n", namespaces[0])).items.length === 0, "a pod is left after the stop");
  await alice.page.goto(`${HUB}/workspaces/${alice.workspace}`);
  await alice.page.click("form[action$='/start'] button");
  await alice.follow();
  await alice.page.waitForSelector("#jp-main-dock-panel", { timeout: PATIENCE.cell });
  check((await alice.read("kept.txt")) === "of alice", "the file is not there after stop and start");
  await alice.shot("started-again");
  say("alice: stopped, started, and the file is there");

  const ada = await Person.arrive("ada");
  await campus.signIn(ada.page, HUB, "ada");
  const open = campus.sockets(ada.page);
  await ada.launch();
  await ada.openNotebook();
  await ada.run('print("walls", 6 * 7)', "walls 42");
  const { spec } = (await kubectl("get", "accounts", "-n", "cubicle-system")).items.find((one) => one.spec.name === "ada");
  check(spec.identity?.issuer === ISSUER && spec.identity.subject === "ada" && spec.groups.includes("physics"), `ada's account is ${JSON.stringify(spec)}`);
  await ada.shot("notebook");
  const ended = await campus.endAtProvider(ada.page, ISSUER, open);
  check(ended.sockets > 0 && ended.took < 5000, `${ended.sockets} WebSockets took ${ended.took} ms to close after the back-channel logout`);
  const later = await ada.page.goto(ada.origin);
  check(later.status() >= 400 || new URL(ada.page.url()).origin === HUB, "the workspace answers after the back-channel logout");
  say(`ada: by way of the provider to a notebook; ended there, her ${ended.sockets} WebSockets were closed after ${ended.took.toFixed(0)} ms`);

  // Any hub is the hub: the session goes on when the replicas that made it are gone.
  const pods = (await kubectl("get", "pods", "-n", "cubicle-system", "-l", "app.kubernetes.io/component=hub")).items;
  check(pods.length >= 2, `there are ${pods.length} hubs`);
  await command("kubectl", ["rollout", "restart", "-n", "cubicle-system", "deployment/cubicle-hub"]);
  await command("kubectl", ["rollout", "status", "-n", "cubicle-system", "deployment/cubicle-hub", "--timeout=120s"]);
  check((await alice.read("kept.txt")) === "of alice", "the open tab does not go on with other hubs");
  await alice.page.goto(HUB);
  await alice.page.waitForSelector("#gallery");
  say("all hubs were replaced; the session and the open tab went on");
  await alice.page.click("text=Sign out");
  await alice.page.waitForURL("**/sign-in**");
  const late = await alice.page.goto(alice.origin);
  check(late.status() >= 400 || new URL(alice.page.url()).origin === HUB, "the workspace answers after the sign-out");
} catch (error) {
  findings.add("people", error.message);
  console.error(error);
} finally {
  await browser.close();
}
process.exitCode = findings.end("people") ? 0 : 1;
