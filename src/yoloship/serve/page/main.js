// The page: takes pictures, asks the models, and shows their answers.

import { Client, Refused } from "./client.js";
import { showComparison } from "./comparison.js";
import { Controls } from "./controls.js";
import { byId, plain, size, sleep } from "./elements.js";
import { colorsOf, Pane } from "./pane.js";
import { filtered, inBoth, objectsOf } from "./record.js";
import { isVideo, JPEG_QUALITY, MOST_PICTURES, Moving, Picture } from "./sources.js";
import { Strip } from "./strip.js";

const MOST_TRIES = 5, LONGEST_WAIT_S = 10, LOADING_S = 1;

const client = new Client(), controls = new Controls({ filtered: show, asked: ask });
const strip = new Strip(byId("strip"), place => { selected = place; ask(); });
const panes = [];
let models = [], limits = {}, pictures = [], selected = 0, moving = null, isWanted = null;
let view = null; // what is on the screen: the name of the picture, its pixels, and an answer for each model
let asking = new AbortController();

/** Say how things are going. */
function tell(text) { byId("status").textContent = text; }

/** Say what went wrong, in one line; nothing if it is over. */
function warn(error, again = null) {
  byId("problem").textContent = error ? error.message ?? error : "";
  byId("trouble").hidden = !error;
  byId("retry").hidden = !again;
  byId("retry").onclick = again;
  if (error?.wantsKey) askForKey();
}

function askForKey() {
  byId("key-form").hidden = false;
  byId("key").focus();
}

/** Learn what the server has. It may still be loading its models. */
async function begin() {
  warn(null);
  for (;;) {
    try {
      const told = await client.models();
      models = told.models.filter(model => model.ready);
      limits = told.limits ?? {};
      byId("key-form").hidden = true;
      byId("forget").hidden = !client.hasKey;
      if (models.length === told.models.length) break;
      tell(`Loading ${told.models.filter(model => !model.ready).map(model => plain(model.name)).join(", ")}…`);
    } catch (error) {
      tell("");
      if (!(error instanceof Refused)) throw error;
      return warn(error, error.wantsKey ? null : begin);
    }
    await sleep(LOADING_S * 1000);
  }
  controls.offer(models);
  controls.begin(models[0]);
  for (const one of document.querySelectorAll("[data-needs-models]")) one.disabled = false;
  tell(models.length === 1 ? "The model is ready." : `${models.length} models are ready.`);
  ask();
}

const chosen = () => controls.names.map(name => models.find(model => model.name === name)).filter(Boolean);
const question = model => `${model.name} ${model.loaded_at} ${JSON.stringify(controls.query(model))}`;

/** Ask for what is not answered yet, from the beginning: after new pictures, other models, another question. */
function ask() {
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  if (!models.length) return;
  controls.describe(chosen());
  if (!pictures.length && !moving) return show();
  warn(null);
  const work = moving ? follow(moving, signal) : askPictures(signal);
  work.catch(error => { if (!signal.aborted) { console.error(error); warn("This page failed. Load it again."); } });
}

/** Answer the pictures: the selected one first, then the others. */
async function askPictures(signal) {
  const asked = chosen();
  const current = pictures[selected], shown = { name: current.name, file: current.file, bitmap: null, answers: [] };
  shown.bitmap = await current.bitmap();
  if (signal.aborted) return;
  view?.bitmap?.close();
  view = shown;
  const failed = new Set();
  for (;;) {
    shown.answers = asked.map(model => current.answers.get(question(model)) ?? null);
    show();
    const lacks = one => !failed.has(one) && asked.some(model => !one.answers.has(question(model)));
    const next = lacks(current) ? current : pictures.find(lacks);
    if (!next) break;
    tell(next === current ? `Asking for ${plain(next.name)}…` : `Asking for picture ${pictures.indexOf(next) + 1} of ${pictures.length}…`);
    try {
      for (const model of asked) { // one after the other, so that their times can be compared
        if (!next.answers.has(question(model))) next.answers.set(question(model), await patiently(model, next, signal));
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Refused)) throw error;
      failed.add(next);
      strip.note(pictures.indexOf(next), "failed");
      if (next === current || error.wantsKey || error.status === 0) {
        warn(`${plain(next.name)}: ${error.message}`, error.passes ? ask : null);
        if (error.wantsKey) askForKey();
      }
      if (error.wantsKey || error.status === 0) return tell("");
      continue;
    }
    if (next === current) warn(null);
    strip.note(pictures.indexOf(next), asked.map(model => objectsOf(next.answers.get(question(model)).record).length).join(" / "));
  }
  if (!failed.has(current)) tell(`${plain(current.name)}: ${panes.slice(0, asked.length).map((pane, place) =>
    asked.length > 1 ? `${plain(asked[place].name)}: ${pane.summary}` : pane.summary).join("; ")}.`);
  else tell("");
}

/** Ask, and ask again while the server says that there will be room. */
async function patiently(model, picture, signal) {
  refuseTooLarge(picture.file);
  for (let tries = 1; ; tries++) {
    try {
      return await client.predict(model.name, picture.file, picture.name, controls.query(model), signal);
    } catch (error) {
      if (error.retryAfterS == null || tries >= MOST_TRIES) throw error;
      tell(`${error.message} Asking again in ${error.retryAfterS} s.`);
      await sleep(error.retryAfterS * 1000, signal);
    }
  }
}

function refuseTooLarge(file) {
  if (file.size > limits.body_bytes) {
    throw new Refused(`The file has ${size(file.size)}, and the server takes ${size(limits.body_bytes)}. Choose a smaller one.`, { status: 413 });
  }
}

/** Answer the newest frame of a video or the camera, one at a time, for as long as it is there. */
async function follow(source, signal) {
  const asked = chosen(), times = [];
  let failures = 0;
  source.again();
  tell(source.name === "camera" ? "The camera is on." : `Playing ${plain(source.name)}.`);
  while (!signal.aborted) {
    try {
      const frame = await source.frame(signal);
      const answers = [];
      for (const model of asked) answers.push(await client.predict(model.name, frame.file, `${source.name}.jpg`, controls.query(model), signal));
      if (signal.aborted) return;
      if (failures) warn(null);
      failures = 0;
      times.push(performance.now());
      if (times.length > 20) times.shift();
      view?.bitmap?.close();
      view = { ...frame, answers, rate: times.length > 2 ? ((times.length - 1) * 1000) / (times.at(-1) - times[0]) : null };
      show();
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Refused)) throw error;
      if (!error.passes) return warn(error, ask);
      const waitS = error.retryAfterS ?? Math.min(2 ** failures, LONGEST_WAIT_S);
      failures++;
      warn(`${error.message} Trying again in ${waitS} s.`);
      await sleep(waitS * 1000, signal).catch(() => {});
      source.again();
    }
  }
}

/** Show what there is, filtered. It asks nothing. */
function show() {
  const asked = chosen(), isEmpty = !view;
  byId("drop").hidden = !isEmpty;
  byId("panes").hidden = isEmpty;
  byId("panes").classList.toggle("two", asked.length > 1);
  showSent();
  if (isEmpty) { byId("comparison").hidden = true; return; }
  const colorOf = colorsOf(asked), { threshold, hidden, show: drawn } = controls;
  const objects = view.answers.map(answer => (answer ? objectsOf(answer.record) : []));
  controls.offerClasses(objects, colorOf);
  const kept = objects.map(list => filtered(list, threshold, hidden));
  const isCompared = asked.length > 1 && view.answers.length > 1 && view.answers.every(Boolean);
  const both = isCompared ? inBoth(...kept) : null;
  asked.forEach((model, place) => {
    if (!panes[place]) byId("panes").append((panes[place] = new Pane(tell)).root);
    panes[place].root.hidden = false;
    panes[place].update({
      model, name: view.name, bitmap: view.bitmap, answer: view.answers[place] ?? null, zoom: controls.zoom, threshold, hidden, show: drawn, colorOf,
      only: both && new Set(kept[place].map(one => one.index).filter(index => !both[place].has(index))),
    });
  });
  panes.slice(asked.length).forEach(pane => { pane.root.hidden = true; });
  byId("comparison").hidden = !isCompared;
  if (isCompared) {
    showComparison(byId("comparison"), asked.map((model, place) =>
      ({ model, shown: kept[place], both: both[place], answer: view.answers[place] })));
  }
}

/** Say what was sent to the server. */
function showSent() {
  byId("sent").hidden = !view;
  if (!view) return;
  const { name, file, bitmap, timeS, rate, answers } = view, parts = [plain(name)];
  if (timeS !== undefined && name !== "camera") parts.push(`at ${timeS.toFixed(2)} s`);
  if (bitmap) parts.push(`${bitmap.width} × ${bitmap.height}`);
  parts.push(timeS === undefined ? `${size(file.size)}, sent as it is` : `${size(file.size)}, sent as JPEG of quality ${JPEG_QUALITY * 100} in full size`);
  if (rate) parts.push(`${rate.toFixed(1)} frames a second`);
  const record = answers.find(Boolean)?.record;
  if (!bitmap && record) parts.push("this browser cannot show the file, but the server has read it");
  if (bitmap && record && (record.width !== bitmap.width || record.height !== bitmap.height)) {
    parts.push(`the server sees ${record.width} × ${record.height}`);
  }
  byId("sent").textContent = parts.join(" · ");
}

/** Take files: one video, or pictures. */
async function take(files) {
  const list = [...files].filter(file => file.size > 0);
  if (!list.length) return warn("There is no image or video in this. Folders cannot be read; choose their files.");
  const video = list.find(isVideo);
  if (video) {
    if (list.length > 1) return warn("Choose one video, or pictures.");
    return start(() => Moving.file(byId("video"), video));
  }
  leave();
  pictures = list.slice(0, MOST_PICTURES).map(file => new Picture(file));
  selected = 0;
  view = { name: pictures[0].name, file: pictures[0].file, bitmap: null, answers: [] };
  strip.show(pictures, 0, list.length);
  ask();
}

/** Begin with a video or the camera. */
async function start(opened) {
  leave();
  warn(null);
  show();
  const wanted = isWanted = {};
  byId("player").hidden = false;
  try {
    const source = await opened();
    if (isWanted !== wanted) return source.stop();
    moving = source;
    ask();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (isWanted !== wanted) return;
    leave();
    show();
    warn(error);
  }
}

/** Leave the pictures, the video or the camera that are there. */
function leave() {
  asking.abort();
  isWanted = null;
  moving?.stop();
  moving = null;
  view = null;
  pictures = [];
  strip.show([], 0, 0);
  controls.forgetClasses();
  byId("player").hidden = true;
  tell("");
}

byId("choose").addEventListener("click", () => byId("files").click());
byId("files").addEventListener("change", event => { take(event.target.files); event.target.value = ""; });
byId("camera").addEventListener("click", () => start(() => Moving.camera(byId("video"), text => { leave(); show(); warn(text); })));
byId("stop").addEventListener("click", () => {
  const last = view, asked = chosen();
  leave();
  if (last?.file) { // the last frame stays as a picture, with its answers
    const picture = new Picture(new File([last.file], `${last.name.replace(/\.[^.]*$/, "")}.jpg`, { type: "image/jpeg" }));
    last.answers.forEach((answer, place) => { if (answer) picture.answers.set(question(asked[place]), answer); });
    [pictures, selected, view] = [[picture], 0, { ...last, name: picture.name, rate: null }];
  }
  ask();
  byId("choose").focus();
});
addEventListener("paste", event => {
  if (event.target.closest?.("input")) return;
  if (event.clipboardData?.files.length) { event.preventDefault(); take(event.clipboardData.files); }
});
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  addEventListener(name, event => {
    event.preventDefault(); // else the browser would leave this page for what is dropped
    document.body.classList.toggle("dragged", name === "dragenter" || name === "dragover");
    if (name === "drop") take(event.dataTransfer.files);
  });
}
byId("key-form").addEventListener("submit", event => {
  event.preventDefault();
  try { client.useKey(byId("key").value.trim()); } catch (error) { return warn(error); }
  byId("key").value = "";
  begin();
});
byId("forget").addEventListener("click", () => {
  client.useKey("");
  byId("forget").hidden = true;
  tell("The key is forgotten.");
  askForKey();
});
byId("filters").open = matchMedia("(min-width: 62rem)").matches; // on a small screen the picture comes first
addEventListener("pagehide", () => moving?.stop());

begin();
