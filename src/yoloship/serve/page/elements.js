// Makes elements. Text is always text: nothing here can become markup.

/** Make an element. `given` has its properties; `class`, `role` and names with a dash are attributes. */
export function make(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined) continue;
    if (name === "class" || name === "role" || name === "scope" || name.includes("-")) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

/** The element with this id. */
export const byId = id => document.getElementById(id);

/** Put a word of a stranger into the page: isolated, so that letters written from right to left move nothing else. */
export const word = text => make("bdi", {}, short(text));

const LONGEST = 80;

/** The beginning of a text that may be endless. */
export const short = text => (text.length > LONGEST ? `${plain(text.slice(0, LONGEST))}…` : plain(text));

/** A text without characters that control it: they are shown as their number. */
export function plain(text) {
  return String(text).replace(CONTROLS, letter => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

export const CONTROLS = /[\u0000-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u2069\ufeff]/g;

/** "1 object", "2 objects". */
export const counted = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

/** A size of data for people: "412 kB", "1.2 MB". */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  return bytes < 1e6 ? `${Math.round(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/** Milliseconds with as many digits as they deserve. */
export const milliseconds = ms => `${ms < 100 ? ms.toFixed(1) : Math.round(ms).toLocaleString("en")} ms`;

/** Wait; it ends early, with an error, if the signal says so. */
export function sleep(ms, signal) {
  return new Promise((done, fail) => {
    const stop = () => { clearTimeout(timer); fail(signal.reason); };
    const timer = setTimeout(() => { signal?.removeEventListener("abort", stop); done(); }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
