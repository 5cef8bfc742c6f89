// The whole way in a real browser: through the provider to a notebook, and out again from both sides; and by way of a
// front that signs people in.
//   node in-browser.mjs HUB ISSUER FRONT SCREENSHOTS
import { mkdir } from "node:fs/promises";
import path from "node:path";
import * as campus from "../browser/campus.mjs";
import { Findings, launchBrowser } from "../browser/browser.mjs";
import * as notebook from "../browser/notebook.mjs";

const [hub, issuer, front, screenshots] = process.argv.slice(2);
await mkdir(screenshots, { recursive: true });
const findings = new Findings();
const check = (truth, what) => findings.check("browser", truth, what);
const browser = await launchBrowser();
const tab = async (options) => {
  const page = await (await browser.newContext(options)).newPage();
  page.setDefaultTimeout(60_000);
  return page;
};
let page = await tab();
const shot = (name) => page.screenshot({ path: path.join(screenshots, `${name}.png`), fullPage: true });
try {
  await page.goto(hub);
  await shot("sign-in");
  await campus.signIn(page, hub, "ada");
  await shot("gallery");
  const open = campus.sockets(page);
  await notebook.card(page, "jupyterlab").locator("button").click();
  await notebook.followLaunch(page, hub, shot);
  const origin = new URL(page.url()).origin;
  await notebook.openNotebook(page);
  await notebook.run(page, 'print("walls", 6 * 7)', ':has-text("walls 42")');
  await shot("notebook");
  check(open.size > 0, "the notebook has no WebSocket");

  // The provider ends the session: what is open closes by itself.
  const { sockets, took } = await campus.endAtProvider(page, issuer, open);
  check(took < 5000, `${sockets} WebSockets took ${took} ms to close after the back-channel logout`);
  console.log(`back-channel logout: ${sockets} WebSockets closed after ${took.toFixed(0)} ms`);
  const late = await page.goto(origin);
  check(late.status() >= 400 || new URL(page.url()).origin === hub, "the notebook answers after the back-channel logout");

  // Again, and out by the hub's own button.
  await page.context().clearCookies();
  await campus.signIn(page, hub, "ada");
  await page.click("text=Sign out");
  await page.waitForURL((url) => !url.pathname.startsWith("/workspaces"));
  await shot("signed-out");
  const after = await page.goto(origin);
  check(after.status() >= 400 || new URL(page.url()).origin === hub, "the notebook answers after the sign-out");

  // By way of the front there is nothing to click: the browser's own question for name and password is its.
  page = await tab({ httpCredentials: { username: "vera", password: "of-vera" } });
  await page.goto(front);
  check((await page.innerText("header")).includes("vera"), "whom the front has signed in is signed in");
  await shot("by-the-front");
  await notebook.card(page, "jupyterlab").locator("button").click();
  await notebook.followLaunch(page, front, shot);
  check(new URL(page.url()).port === new URL(front).port, "the notebook is reached by way of the front");
  await notebook.openNotebook(page);
  await notebook.run(page, 'print("front", 6 * 7)', ':has-text("front 42")');
  await shot("by-the-front-notebook");
  await page.goto(front);
  await page.click("text=Sign out");
  await page.waitForURL((url) => url.pathname === "/signed-out");
  await shot("by-the-front-signed-out");
} catch (error) {
  await shot("failed").catch(() => {});
  findings.add("browser", error.message);
  console.error(error);
} finally {
  await browser.close();
}
process.exitCode = findings.end("through the provider in a browser") ? 0 : 1;
