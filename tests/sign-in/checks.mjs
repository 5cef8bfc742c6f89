// What the walks through signing in share.

/** Counts what is not as it should be. */
export class Checks {
  #wrong = [];

  check(truth, what, seen = "") {
    console.log(`${truth ? "ok" : "NOT OK"} ${what}${truth ? "" : `: ${JSON.stringify(seen)}`}`);
    if (!truth) this.#wrong.push(what);
  }

  /** Says how it went, and ends the process so. */
  end(title) {
    console.log(this.#wrong.length === 0 ? `${title}: ok` : `${title}: ${this.#wrong.length} findings`);
    process.exit(this.#wrong.length === 0 ? 0 : 1);
  }
}

/** Whom the interface takes a person's browser for; the status when for nobody. */
export async function me(hub, person) {
  const headers = { cookie: person.cookies(hub), "sec-fetch-site": "same-origin", ...person.headers };
  const answer = await fetch(`${hub}/api/v1/users/me`, { headers });
  return answer.ok ? answer.json() : answer.status;
}
