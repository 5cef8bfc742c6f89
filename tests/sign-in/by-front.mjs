// Signs in by way of a real front that asks for name and password itself, and past it with what only it may say.
//   node by-front.mjs HUB FRONT SECRET
import { Checks, me } from "./checks.mjs";
import { Person } from "./person.mjs";

const [hub, front, secret] = process.argv.slice(2);
const checks = new Checks();
const by = (name) => ({ authorization: `Basic ${Buffer.from(`${name}:of-${name}`).toString("base64")}` });
const known = async (person) => (await me(front, person)).name;

const stranger = await new Person().go("GET", front);
checks.check(stranger.status === 401 && !stranger.text.includes("Cubicle"), "who has no password at the front gets no further", stranger);

const vera = new Person();
vera.headers = by("vera");
const page = await vera.go("GET", `${front}/account`);
checks.check(page.status === 200 && page.url.pathname === "/account", "whom the front has signed in is where they wanted to be", page);
const first = await me(front, vera);
checks.check(first.name === "vera" && first.role === "admin", "name and role come from the front", first);
checks.check(JSON.stringify(first.groups) === '["operators","staff"]', "groups come from the front", first.groups);
checks.check(vera.trail.filter((line) => line.includes("/sign-in")).length === 1, "there was nothing to click", vera.trail);

// Past the front, with its person's cookie, and with what it says.
const past = new Person();
const cookie = vera.cookies(front);
for (const [what, headers, expected] of [
  ["the cookie alone", { cookie }, 303],
  ["a name alone", { "x-remote-user": "vera" }, 401],
  ["a name and the cookie", { cookie, "x-remote-user": "vera" }, 401],
  ["a name and a wrong secret", { "x-remote-user": "vera", "x-cubicle-front": `${secret}.` }, 401],
  ["a name and the secret, which only the front knows", { "x-remote-user": "vera", "x-cubicle-front": secret }, 303],
]) {
  past.headers = headers;
  const answer = await past.once("GET", `${hub}/account`);
  checks.check(answer.status === expected, `past the front, ${what}: ${expected}`, answer.status);
}

// What its client writes does not get through it.
const forger = new Person();
forger.headers = { ...by("otto"), "x-remote-user": "vera", "x-remote-name": "vera", "x-remote-groups": "operators", "x-cubicle-front": secret };
await forger.go("GET", front);
const forged = await me(front, forger);
checks.check(forged.name === "otto" && forged.role === "user", "a client of the front is who the front says", forged);

// One browser, two people one after the other.
vera.headers = by("otto");
checks.check((await known(vera)) === undefined, "a session of the one is nothing for the other", await me(front, vera));
await vera.go("GET", front);
checks.check((await known(vera)) === "otto", "who uses the browser next is signed in as themselves", await me(front, vera));

const account = await vera.go("GET", `${front}/account`);
const out = await vera.submit(account, "/sign-out");
checks.check(out.url.pathname === "/signed-out" && out.text.includes("/sign-in/with/gateway/sign-out"), "signing out offers the front's", out.url);
checks.check((await known(vera)) === undefined, "and the session is over");

checks.end("by way of a front");
