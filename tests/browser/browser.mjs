// What both browser tests share: Debian's Chromium, held to this machine, and what is asked of
// every page in every shape.
import { mkdir } from "node:fs/promises";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Light, dark, and as narrow as a phone in both. */
export const SHAPES = [
  { name: "light", colorScheme: "light", width: 1280 },
  { name: "dark", colorScheme: "dark", width: 1280 },
  { name: "narrow", colorScheme: "light", width: 400 },
  { name: "narrow-dark", colorScheme: "dark", width: 400 },
];

/** Names that are this machine's; no other one is resolved, so that no packet leaves. */
const LOCAL = "MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.0.0.1";

/** Starts Chromium with a fresh profile. `names` are its rules of what resolves; none may lead off the machine. */
export function launchBrowser(names = LOCAL) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    chromiumSandbox: false,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      `--host-resolver-rules=${names}`,
    ],
  });
}

/** Counts what went wrong, and says so at the end. */
export class Findings {
  #found = [];

  add(where, what) {
    this.#found.push(`${where}: ${what}`);
    console.error(`  NOT OK ${where}: ${what}`);
  }

  check(where, truth, what) {
    if (!truth) this.add(where, what);
    return truth;
  }

  /** Prints the result; true when nothing was found. */
  end(title) {
    console.log(this.#found.length === 0 ? `${title}: ok` : `${title}: ${this.#found.length} findings`);
    return this.#found.length === 0;
  }
}

/** Reports whatever a page complains about by itself: script errors, refused content, dialogs. */
export function watch(page, findings, where) {
  page.on("pageerror", (error) => findings.add(where(), `script error: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error") findings.add(where(), `console: ${message.text()}`);
  });
  page.on("dialog", async (dialog) => {
    findings.add(where(), `a dialog opened: ${dialog.message()}`);
    await dialog.dismiss();
  });
}

async function violations(page) {
  await page.evaluate(axe);
  const { violations: found } = await page.evaluate(() =>
    // eslint-disable-next-line no-undef
    axe.run(document, {
      resultTypes: ["violations"],
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    }),
  );
  return found.map((one) => `${one.id}: ${one.help} (${one.nodes.length}x, ${one.nodes[0].target.join(" ")})`);
}

/** Takes a page in every shape, and asks of each: no axe violation, nothing wider than the window. */
export async function inspect(page, name, directory, findings) {
  await mkdir(directory, { recursive: true });
  let asked = 0;
  for (const shape of SHAPES) {
    await page.setViewportSize({ width: shape.width, height: 900 });
    await page.emulateMedia({ colorScheme: shape.colorScheme, reducedMotion: "reduce" });
    await page.screenshot({ path: path.join(directory, `${name}.${shape.name}.png`), fullPage: true });
    for (const violation of await violations(page)) findings.add(`${name} (${shape.name})`, violation);
    const excess = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    findings.check(`${name} (${shape.name})`, excess <= 0, `${excess} px wider than the window`);
    asked += 1;
  }
  await page.setViewportSize({ width: 1280, height: 900 });
  await page.emulateMedia({ colorScheme: "light" });
  return asked;
}
