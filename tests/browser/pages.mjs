// Every page with sample data, in a real browser: node pages.mjs PAGES SCREENSHOTS
// PAGES is what `cargo run -p cubicle-hub --example pages -- PAGES` wrote.
import { createServer } from "node:http";
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { Findings, inspect, launchBrowser, watch } from "./browser.mjs";

const [pages, screenshots] = process.argv.slice(2);
if (!pages || !screenshots) {
  console.error("use: node pages.mjs PAGES SCREENSHOTS");
  process.exit(2);
}

// The hub's policy, so that an inline script or style in a page shows as a console error here.
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
const TYPES = { ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".html": "text/html; charset=utf-8" };

const told = (step, state, elapsed_ms) => ({ step, state, message: `${step} is ${state} <b>&`, elapsed_ms });
const EVENTS = {
  silent: [],
  opens: ["request", "plan", "build", "prove", "open"].flatMap((step, position) => [
    told(step, "running", position * 100),
    told(step, "done", position * 100 + 90),
  ]),
  fails: [told("request", "done", 3), told("plan", "done", 5), told("build", "failed", 90)],
};
let progress = "silent";
let loads = 0;

const server = createServer(async (request, answer) => {
  const url = new URL(request.url, "http://localhost");
  if (url.pathname.endsWith("/events")) {
    answer.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    for (const event of EVENTS[progress]) {
      answer.write(`data: ${JSON.stringify(event)}\n\n`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    return;
  }
  if (url.pathname.endsWith("/open")) {
    answer.writeHead(200, { "content-type": "text/html", "content-security-policy": POLICY });
    answer.end("<!DOCTYPE html><title>opened</title><link rel=icon href=data:,>");
    return;
  }
  const name = path.basename(url.pathname);
  const file = url.pathname.includes("/assets/") ? path.join(pages, "assets", name) : path.join(pages, `${name}.html`);
  try {
    const content = await readFile(file);
    if (name === "launching") loads += 1;
    answer.writeHead(200, { "content-type": TYPES[path.extname(file)], "content-security-policy": POLICY });
    answer.end(content);
  } catch {
    answer.writeHead(404);
    answer.end();
  }
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const origin = `http://localhost:${server.address().port}`;

const findings = new Findings();
const browser = await launchBrowser();
try {
  const page = await browser.newPage();
  let current = "";
  watch(page, findings, () => current);

  const names = (await readdir(pages)).filter((file) => file.endsWith(".html")).map((file) => file.slice(0, -5)).sort();
  let shapes = 0;
  for (current of names) {
    await page.goto(`${origin}/${current}`);
    const markup = await page.evaluate(() => document.querySelectorAll("main script, main style, [style], [onerror], [onclick]").length);
    findings.check(current, markup === 0, "holds an inline script, style or handler");
    shapes += await inspect(page, current, screenshots, findings);
    if (current === "isolation-refused") {
      await page.evaluate(() => document.querySelectorAll("details").forEach((one) => (one.open = true)));
      shapes += await inspect(page, "isolation-all-open", screenshots, findings);
    }
  }
  findings.check("pages", names.length >= 30, `only ${names.length} pages in ${pages}`);
  console.log(`${names.length} pages, ${shapes} screenshots, axe asked of each`);

  current = "keyboard";
  await page.goto(`${origin}/home`);
  await page.keyboard.press("Tab");
  const skip = await page.evaluate(() => {
    const box = document.activeElement.getBoundingClientRect();
    return { text: document.activeElement.textContent, visible: box.top >= 0 && box.height > 10 };
  });
  findings.check(current, skip.text === "Skip to the content" && skip.visible, "the first Tab does not show the skip link");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  const focus = await page.evaluate(() => ({
    inside: document.querySelector("main").contains(document.activeElement),
    outline: getComputedStyle(document.activeElement).outlineStyle,
  }));
  findings.check(current, focus.inside, "the skip link does not lead into the content");
  findings.check(current, focus.outline !== "none", "the focus cannot be seen");

  current = "live progress";
  progress = "opens";
  await page.goto(`${origin}/launching`);
  // Read in the page and at once: it goes to the notebook as soon as the last step is done.
  const filled = await page.waitForFunction(() => {
    const step = document.querySelector("[data-step=plan]");
    return step?.dataset.state === "done" && step.querySelector(".step-message").textContent;
  });
  const message = await filled.jsonValue();
  findings.check(current, message === "plan is done <b>&", `a message was not shown as text: ${message}`);
  await page.waitForURL("**/open", { timeout: 15000 });

  current = "live failure";
  progress = "fails";
  loads = 0;
  await page.goto(`${origin}/launching`);
  await page.waitForURL("**/launching?after=failed", { timeout: 15000 });
  await page.waitForTimeout(1000);
  findings.check(current, loads === 2, `loaded ${loads} times instead of once and once again`);

  current = "without script";
  progress = "silent";
  const plain = await browser.newPage({ javaScriptEnabled: false });
  await plain.goto(`${origin}/launching`);
  const content = await plain.content();
  findings.check(current, content.includes('http-equiv="refresh"'), "the launch page does not load itself again");
  await plain.goto(`${origin}/home`);
  for (const [selector, what] of [
    ["form[action='/workspaces'] button", "launch"],
    ["form[action$='/stop'] button", "stop"],
    ["form[action$='/start'] button", "start"],
    ["a[href$='/open']", "open"],
    ["a[href$='/delete']", "delete"],
  ]) {
    findings.check(current, (await plain.locator(selector).count()) > 0, `no way to ${what}`);
  }
  await plain.goto(`${origin}/isolation`);
  const bare = await plain.$$eval("form[method=post]", (forms) => forms.filter((form) => !form.elements.csrf).length);
  findings.check(current, bare === 0, "a form has no csrf field");
} finally {
  await browser.close();
  server.closeAllConnections();
  server.close();
}
process.exitCode = findings.end("pages") ? 0 : 1;
