// The daemon's REST interface.

export class Problem extends Error {
  constructor(message, error, status) {
    super(message);
    this.error = error;
    this.status = status;
  }
}

/** `path` is a list; each part is encoded. */
export async function call(method, path, body, query) {
  const url = "/api/v1/" + path.map(encodeURIComponent).join("/") + (query ? `?${new URLSearchParams(query)}` : "");
  const options = { method, headers: {} };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(url, options);
  } catch {
    throw new Problem("The daemon cannot be reached.");
  }
  const text = await response.text();
  let value = null;
  try {
    value = text ? JSON.parse(text) : null;
  } catch {
    throw new Problem(`The daemon answered ${response.status}: ${text.trim()}`);
  }
  if (!response.ok) throw new Problem(value?.detail ?? `The daemon answered ${response.status}.`, value?.error, response.status);
  return value;
}

export const get = (...path) => call("GET", path);
export const getOf = (path, query) => call("GET", path, undefined, query);

/** Everything that the views show. */
export async function everything(needs) {
  // Whether one may look at all, before the rest is asked for.
  const session = await get("session");
  const names = ["status", "pools", "disks", "snapshots", "targets", "sessions"];
  // Of thousands of jobs, those that somebody looks for.
  const wanted = [{ newest: 200 }, { ended: false }, { kind: "data-path-fault" }];
  const [lists, values] = await Promise.all([
    Promise.all(wanted.map((query) => getOf(["jobs"], query))), Promise.all(names.map((name) => get(name)))]);
  const jobs = [...new Map(lists.flat().map((job) => [job.id, job])).values()];
  const named = (names, values) => Object.fromEntries(names.map((name, index) => [name, values[index]]));
  const others = needs?.(session) ?? [];
  const more = named(others, await Promise.all(others.map((name) => get(name))));
  return { session, ...named(names, values), jobs, more };
}
