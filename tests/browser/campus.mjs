// A person whom a provider of identities vouches for, in a browser: the pages are those of the provider that
// tests/sign-in/provider.mjs starts.

/** Signs in by way of the provider; ends at the hub's gallery. */
export async function signIn(page, hub, who) {
  await page.goto(hub);
  await page.click("text=Campus login");
  await page.fill("input[name=login]", who);
  await page.fill("input[name=password]", "anything");
  await page.click("button[type=submit]");
  // What the hub wants to know of them.
  await page.click("button:has-text('Continue')");
  await page.waitForSelector("#gallery");
}

/** Follows the WebSockets of a page: those that are open. */
export function sockets(page) {
  const open = new Set();
  page.on("websocket", (socket) => {
    open.add(socket);
    socket.on("close", () => open.delete(socket));
  });
  return open;
}

/**
 * Ends the session at the provider, in another tab; the provider tells the hub (back-channel logout). Returns how long it took until
 * each WebSocket that was open then was closed, in milliseconds. The tab stays: Chromium may hang when one is closed right after
 * it was led on.
 */
export async function endAtProvider(page, issuer, open) {
  const were = [...open];
  const closed = were.map((socket) => new Promise((resolve) => socket.on("close", () => resolve(performance.now()))));
  const tab = await page.context().newPage();
  await tab.goto(`${issuer}/session/end`);
  const began = performance.now();
  await tab.click("button[value=yes]");
  const all = Promise.all(closed);
  const late = new Promise((resolve) => setTimeout(() => resolve(null), 20_000).unref());
  const ends = await Promise.race([all, late]);
  return { sockets: were.length, took: ends === null ? Infinity : Math.max(...ends) - began };
}
