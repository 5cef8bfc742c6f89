// What a person does with a launch and with JupyterLab, for every browser test.

/** How long each may take, in milliseconds. A cluster is given more than one machine. */
export const PATIENCE = { launch: 180_000, cell: 90_000 };

/**
 * Follows a launch from its page to the notebook's own origin; returns every state of every step that was shown.
 * `shot(name)` takes a picture of a launch that did not open.
 */
export async function followLaunch(page, hub, shot, patience = PATIENCE) {
  const seen = new Set();
  const take = setInterval(() => {
    if (new URL(page.url()).origin !== hub) return;
    page
      .$$eval("[data-step]", (steps) => steps.map((step) => `${step.dataset.step} ${step.dataset.state}`))
      .then((states) => states.forEach((state) => seen.add(state)))
      // The page may go away while it is asked.
      .catch(() => {});
  }, 50);
  try {
    const opened = page.waitForURL((url) => url.origin !== hub, { timeout: patience.launch, waitUntil: "commit" });
    const ended = page.waitForSelector("main .note.bad[role=alert]", { timeout: patience.launch }).then(
      () => true,
      () => false,
    );
    // Whichever comes first; a launch that ended tells why on its page.
    const refused = await Promise.race([opened.then(() => false), ended]);
    if (refused) {
      await shot("launch-did-not-open");
      throw new Error(`the launch did not open:\n${await page.locator("main").innerText()}`);
    }
    await opened;
  } finally {
    clearInterval(take);
  }
  return seen;
}

/** The card of a template in the gallery. */
export function card(page, template) {
  return page.locator(".gallery .card", { has: page.locator("h3", { hasText: new RegExp(`^${template}$`) }) });
}

export async function openNotebook(page, patience = PATIENCE) {
  await page.waitForSelector(".jp-LauncherCard", { timeout: patience.cell });
  await page.locator(".jp-LauncherCard[data-category=Notebook]").first().click();
  await page.waitForSelector(".jp-Notebook .jp-CodeCell .cm-content", { timeout: patience.cell });
  // The indicator in the notebook says idle before there is a kernel, and JupyterLab forgets what is run then.
  await page.waitForSelector("#jp-main-statusbar >> text=/ \\| Idle/", { timeout: patience.cell });
}

/** Runs code in the last cell and waits for its output, a selector within the output's area. */
export async function run(page, code, output, patience = PATIENCE) {
  await page.locator(".jp-Notebook .jp-CodeCell .cm-content").last().click();
  await page.keyboard.insertText(code);
  await page.keyboard.press("Shift+Enter");
  await page.locator(`.jp-Notebook .jp-OutputArea-output${output}`).last().waitFor({ timeout: patience.cell });
}

/** Reads a file of the home through the notebook's own origin. */
export function read(page, name) {
  return page.evaluate(async (file) => {
    const answer = await fetch(`/api/contents/${file}`);
    return answer.ok ? (await answer.json()).content : `status ${answer.status}`;
  }, name);
}
