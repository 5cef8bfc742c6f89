// Signs in and out by way of a real provider, with a client that shows nothing.
//   node walk.mjs HUB PROVIDER
import { Checks, me } from "./checks.mjs";
import { Person } from "./person.mjs";

const [hub, issuer] = process.argv.slice(2);
const checks = new Checks();
const check = checks.check.bind(checks);

const ada = new Person();
const page = await ada.signIn(hub, "ada");
check(page.status === 200 && page.url.pathname === "/account", "a person who signed in is where they wanted to be", [page.status, page.url]);
const first = await me(hub, ada);
check(first.name === "ada" && first.role === "admin" && first.issuer === issuer, "name, role and issuer come from the provider", first);
check(JSON.stringify(first.groups) === '["physics","staff"]', "groups come from the provider", first.groups);

// Another browser, the same person.
const again = new Person();
await again.signIn(hub, "ada");
check((await me(hub, again)).id === first.id, "the same person is the same account");

const grace = new Person();
await grace.signIn(hub, "grace");
check((await me(hub, grace)).role === "auditor", "a role of an auditor is one", await me(hub, grace));

const mallory = new Person();
await mallory.signIn(hub, "mallory");
const taken = await me(hub, mallory);
check(taken.name === "admin@campus" && taken.role === "user", "a name that a local account has is not shared", taken);

// What came back once does not come back twice.
const back = ada.trail.find((line) => line.includes("/sign-in/with/campus/back"));
check(back?.endsWith("303"), "the way back was one redirect", back);

for (const next of ["//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example"]) {
  const person = new Person();
  const page = await person.signIn(hub, "ada", next);
  check(page.url.origin === new URL(hub).origin && page.url.pathname === "/", `next ${JSON.stringify(next)} leads nowhere else`, page.url);
}

// Back-channel: the provider's own sign-out ends the session here.
const grew = await ada.go("GET", `${issuer}/session/end`);
const began = performance.now();
await ada.submit(grew, "/session/end/confirm", { logout: "yes" });
let ended = 0;
while (performance.now() - began < 5000 && !ended) {
  if ((await me(hub, ada)) === 401) ended = performance.now() - began;
  else await new Promise((resolve) => setTimeout(resolve, 20));
}
check(ended > 0, "signing out at the provider ends the session here within 5 s");
console.log(`   it took ${ended.toFixed(0)} ms`);
check(typeof (await me(hub, again)) === "object", "the other browser's session goes on");

// RP-initiated: signing out here leads to the provider, and back.
const account = await again.go("GET", `${hub}/account`);
const out = await again.submit(account, "/sign-out");
check(out.url.pathname === "/signed-out" && out.text.includes("/sign-in/with/campus/sign-out"), "signing out offers the provider's", out.url);
check((await me(hub, again)) === 401, "signing out here needs nobody else");
const confirm = await again.go("GET", `${hub}/sign-in/with/campus/sign-out`);
check(confirm.url.origin === issuer, "the way out leads to the provider", confirm.url);
const end = await again.submit(confirm, "/session/end/confirm", { logout: "yes" });
check(end.url.href.startsWith(`${hub}/signed-out`), "and back", end.url);
const fresh = await again.go("GET", `${hub}/sign-in/with/campus`);
check(fresh.text.includes('name="login"'), "the provider asks again who it is");

checks.end("sign-in");
