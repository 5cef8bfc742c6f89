// What a browser does without showing anything: cookies by host, redirects one by one, forms.
const DECODE = { "&amp;": "&", "&quot;": '"', "&#39;": "'", "&#34;": '"', "&#x2F;": "/", "&lt;": "<", "&gt;": ">" };
const decode = (text) => text.replace(/&[#\w]+;/g, (entity) => DECODE[entity] ?? entity);

export class Person {
  #jars = new Map();
  /** Sent with every request. */
  headers = {};
  /** Every address on the way, for whoever wants to know. */
  trail = [];

  #jar(url) {
    const host = url.hostname;
    if (!this.#jars.has(host)) this.#jars.set(host, new Map());
    return this.#jars.get(host);
  }

  cookies(address) {
    return [...this.#jar(new URL(address))].map(([name, value]) => `${name}=${value}`).join("; ");
  }

  /** One request; redirects are not followed. */
  async once(method, address, form) {
    const url = new URL(address);
    const headers = { accept: "text/html", cookie: this.cookies(url), ...this.headers };
    if (method === "GET") Object.assign(headers, { "sec-fetch-site": "none", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" });
    else Object.assign(headers, { origin: url.origin, "sec-fetch-site": "same-origin" });
    const body = form && new URLSearchParams(form);
    const answer = await fetch(url, { method, headers, body, redirect: "manual" });
    for (const cookie of answer.headers.getSetCookie()) {
      const [pair] = cookie.split(";");
      const at = pair.indexOf("=");
      const gone = /max-age=0/i.test(cookie) || /expires=Thu, 01 Jan 1970/i.test(cookie);
      if (gone) this.#jar(url).delete(pair.slice(0, at));
      else this.#jar(url).set(pair.slice(0, at), pair.slice(at + 1));
    }
    this.trail.push(`${method} ${url.origin}${url.pathname} ${answer.status}`);
    return { status: answer.status, place: answer.headers.get("location"), text: await answer.text(), url };
  }

  /** Follows redirects to a page. */
  async go(method, address, form) {
    let answer = await this.once(method, address, form);
    for (let hops = 0; answer.place && answer.status >= 300 && answer.status < 400; hops += 1) {
      if (hops > 20) throw new Error(`too many redirects: ${this.trail.slice(-5).join(", ")}`);
      answer = await this.once("GET", new URL(answer.place, answer.url));
    }
    return answer;
  }

  /** Sends the first form of a page whose action holds this text, with these fields filled in. */
  async submit(page, action, fields = {}) {
    for (const [, head, body] of page.text.matchAll(/<form([^>]*)>(.*?)<\/form>/gs)) {
      const target = decode(/action="([^"]*)"/.exec(head)?.[1] ?? "");
      if (!target.includes(action)) continue;
      const form = {};
      for (const [input] of body.matchAll(/<input[^>]*>/g)) {
        const name = /name="([^"]*)"/.exec(input)?.[1];
        if (name) form[name] = decode(/value="([^"]*)"/.exec(input)?.[1] ?? "");
      }
      return this.go("POST", new URL(target, page.url), { ...form, ...fields });
    }
    throw new Error(`no form to ${action} at ${page.url} (${page.status}): ${page.text.slice(0, 400)}`);
  }

  /** Signs in at the provider as whoever this is, by way of the hub's button. */
  async signIn(hub, name, next = "/account") {
    let page = await this.go("GET", `${hub}/sign-in/with/campus?next=${encodeURIComponent(next)}`);
    for (let pages = 0; page.url.origin !== new URL(hub).origin; pages += 1) {
      if (pages > 4) throw new Error(`the provider does not come to an end: ${this.trail.join(", ")}`);
      page = await this.submit(page, "/interaction/", page.text.includes('name="login"') ? { login: name, password: "x" } : {});
    }
    return page;
  }
}
