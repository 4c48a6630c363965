// Speaks to the server, and says in one line what went wrong and what to do.

import { plain } from "./elements.js";

const KEY_NAME = "yoloship-api-key";

/** What the server, or the way to it, answered instead of a record. */
export class Refused extends Error {
  /**
   * @param {string} message One line that says what to do.
   * @param {{status?: number, retryAfterS?: number}} facts The status is 0 if nothing came back. With `retryAfterS`,
   *   the same request may succeed after so many seconds.
   */
  constructor(message, { status = 0, retryAfterS = null } = {}) {
    super(message);
    Object.assign(this, { status, retryAfterS });
  }

  get wantsKey() { return this.status === 401; }
  /** Whether a new attempt may succeed although nothing was changed. */
  get passes() { return [0, 429, 500, 502, 503, 504].includes(this.status); }
}

/** The server that this page comes from. */
export class Client {
  #key = stored();

  get hasKey() { return this.#key !== ""; }

  /** Take an API key, which this tab forgets when it is closed. An empty one forgets it now. */
  useKey(key) {
    if (!/^[\x21-\x7e]{0,1000}$/.test(key)) throw new Refused("An API key has ASCII characters only, without spaces.");
    this.#key = key;
    try {
      if (key) sessionStorage.setItem(KEY_NAME, key); else sessionStorage.removeItem(KEY_NAME);
    } catch { /* a browser that stores nothing keeps it in this page only */ }
  }

  /** The models and the limits of the server. */
  async models() {
    return (await this.#ask("v1/models", {})).data;
  }

  /**
   * Ask what is in an image.
   * @returns {Promise<{record: object, stages: object, tripMs: number}>} The record, the server's milliseconds by
   *   stage, and the milliseconds from the request to the whole answer.
   */
  async predict(model, image, name, query, signal) {
    const body = new FormData();
    body.append("image", image, name);
    const address = `v1/models/${encodeURIComponent(model)}/predict?${new URLSearchParams(query)}`;
    const { data, stages, tripMs } = await this.#ask(address, { method: "POST", body, signal });
    const record = data.results[0];
    if (typeof record.error === "string") throw new Refused(plain(record.error), { status: 422 });
    return { record, stages, tripMs };
  }

  async #ask(address, how) {
    const headers = this.#key ? { "X-API-Key": this.#key } : {};
    const beganMs = performance.now();
    let answer, data;
    try {
      answer = await fetch(address, { cache: "no-store", credentials: "same-origin", ...how, headers });
      data = await answer.json();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      if (answer && !answer.ok) throw refusal(answer, null);
      if (answer && error instanceof SyntaxError) throw new Refused("The answer is not JSON: does a proxy answer instead of the server?", { status: 502 });
      throw new Refused("The server cannot be reached. Is it still running?");
    }
    if (!answer.ok) throw refusal(answer, data);
    return { data, stages: stagesOf(answer.headers.get("Server-Timing") ?? ""), tripMs: performance.now() - beganMs };
  }
}

/** Milliseconds by stage, from the header Server-Timing. */
export function stagesOf(header) {
  return Object.fromEntries([...header.matchAll(/([a-z]+);dur=([\d.]+)/g)].map(([, name, ms]) => [name, Number(ms)]));
}

function refusal(answer, data) {
  const { status } = answer;
  const said = plain(data?.error?.message ?? answer.statusText ?? "").slice(0, 300);
  const seconds = Number(answer.headers.get("Retry-After"));
  const retryAfterS = Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, 60) : null;
  const message = {
    401: said.includes("wrong") ? "The API key is wrong. Enter another one." : "This server needs an API key.",
    413: `The server does not take an image of this size: ${said}`,
    429: "The server is busy.",
    503: `The server is not ready: ${said}.`,
    504: "The answer took longer than the server allows. Send less at a time, or a smaller image.",
  }[status] ?? `The server refused this (${status}): ${said}`;
  return new Refused(message, { status, retryAfterS: [429, 503].includes(status) ? retryAfterS ?? 1 : null });
}

function stored() {
  try { return sessionStorage.getItem(KEY_NAME) ?? ""; } catch { return ""; }
}
