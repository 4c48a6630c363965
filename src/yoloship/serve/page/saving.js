// Copies and saves what a pane shows.

import { paint } from "./drawing.js";
import { make, plain } from "./elements.js";
import { recordText } from "./record.js";

const FREE_AFTER_MS = 60_000;

/** Copy the record as it is shown. @returns {Promise<string>} What became of it. */
export async function copyText({ record, objects }) {
  const text = recordText(record, objects);
  try {
    await navigator.clipboard.writeText(text);
  } catch { // browsers give the clipboard to https and localhost only; elsewhere there is the older way
    const field = document.body.appendChild(make("textarea", { class: "unseen", value: text, "aria-hidden": "true" }));
    const before = document.activeElement;
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    before?.focus();
    if (!done) return "The browser does not let this page copy. Save the JSON instead.";
  }
  return "Copied the record as it is shown.";
}

/** Save the record as it is shown. */
export function saveText({ name, model, record, objects }) {
  return save(new Blob([recordText(record, objects)], { type: "application/json" }), `${fileName(name, model)}.json`);
}

/** Save the picture in its full size with what is shown on it. */
export async function savePicture({ name, model, bitmap, width, height, draw }) {
  const canvas = new OffscreenCanvas(width, height), side = Math.sqrt(width * height);
  paint(canvas, bitmap);
  draw(canvas.getContext("2d"), {
    width, height, scale: 1, linePx: Math.max(1, Math.round(1 + side / 480)), textPx: Math.max(11, Math.round(side / 46)),
  });
  return save(await canvas.convertToBlob({ type: "image/png" }), `${fileName(name, model)}.png`);
}

function save(blob, name) {
  const address = URL.createObjectURL(blob);
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), FREE_AFTER_MS);
  return `Saved ${plain(name)}.`;
}

/** "scene.png" and "best" → "scene.best". */
function fileName(name, model) {
  const stem = name.replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N}._-]+/gu, "_").replace(/^\.+/, "").slice(0, 80);
  return `${stem || "image"}.${model}`;
}
