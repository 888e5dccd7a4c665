// The engine, asked with this tab's token. The token comes once in the address, and then is in no link and no history.

const KEPT = "dcengine-token";

/** A refusal of the engine, in its own words. */
export class Refusal extends Error {
  constructor(status, name, message, facts = []) {
    super(message);
    Object.assign(this, { status, name, facts });
  }

  get needsToken() {
    return this.status === 401;
  }
}

/** Nobody has answered: the engine is away, or the network. */
export class Unreachable extends Error {
  isUnreachable = true;
}

/** Take the token from the address into this tab, and clean the address; behind the # it is in no request at all. */
export function takeToken(where = window.location) {
  const address = new URL(where.href);
  const [path, words = ""] = address.hash.startsWith("#token=") ? ["#/", address.hash.slice(1)] : address.hash.split("?");
  const query = new URLSearchParams(words);
  const token = query.get("token") || address.searchParams.get("token");
  if (!token) return;
  keepToken(token);
  address.searchParams.delete("token");
  query.delete("token");
  address.hash = query.size ? `${path}?${query}` : path;
  window.history.replaceState(null, "", address);
}

export const token = () => sessionStorage.getItem(KEPT) ?? "";
export const keepToken = (text) => sessionStorage.setItem(KEPT, text.trim());
export const forgetToken = () => sessionStorage.removeItem(KEPT);

/** The address of `path`, below whatever prefix the page was served. */
export function addressOf(path, query = {}) {
  const address = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") address.searchParams.set(name, value);
  }
  return address;
}

/** Ask the engine, and return its answer as it came. Throws a `Refusal`. */
export async function ask(method, path, { query, json, body, headers = {}, signal } = {}) {
  const said = { ...headers };
  if (token()) said.Authorization = `Bearer ${token()}`;
  if (json !== undefined) said["Content-Type"] = "application/json";
  const answer = await fetch(addressOf(path, query), {
    method,
    headers: said,
    body: json === undefined ? body : JSON.stringify(json),
    signal,
    cache: "no-store",
    credentials: "omit",
  }).catch((error) => {
    throw error.name === "AbortError" ? error : new Unreachable("the engine does not answer");
  });
  if (answer.ok) return answer;
  let problem = {};
  try {
    problem = await answer.json();
  } catch {
    // a proxy's page, say
  }
  throw new Refusal(answer.status, problem.error ?? "", problem.message ?? `${answer.status} ${answer.statusText}`, problem.facts);
}

export const get = async (path, query, signal) => (await ask("GET", path, { query, signal })).json();
export const text = async (path, query, signal) => (await ask("GET", path, { query, signal })).text();
export const blob = async (path, query, signal) => (await ask("GET", path, { query, signal })).blob();

/** Have the engine do something; said twice by accident, it is done once. */
export async function act(method, path, { query, json } = {}) {
  const headers = { "Idempotency-Key": crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}` };
  const answer = await ask(method, path, { query, json, headers });
  return answer.status === 204 ? null : answer.json();
}

/** What stands for all files of this page, as the engine has them now. */
export async function pageTag() {
  const answer = await fetch(addressOf(""), { cache: "no-store", credentials: "omit" });
  return answer.ok ? answer.headers.get("ETag") : null;
}
