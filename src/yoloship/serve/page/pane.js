// What one model says of the picture: the picture with what was found, a table, the time it took.

import { classColor, css, drawClass, drawObjects, paint } from "./drawing.js";
import { counted, make, milliseconds, plain, short, word } from "./elements.js";
import { countsOf, filtered, isClassification, objectAt, objectsOf } from "./record.js";
import { copyText, saveText, savePicture } from "./saving.js";
import { Table } from "./table.js";

const LARGEST_SCALE = 8, TALLEST = 0.7, LEAST_HEIGHT_PX = 220;
const MOST_SIDE = 16_000, MOST_PIXELS = 60e6; // what browsers give a canvas
export const STAGES = [
  ["decode", "decoding"], ["queue", "waiting"], ["network", "model"], ["around", "transfer and JSON"],
];

/** Milliseconds of an answer by stage; `around` is what the browser waited besides. */
export const stagesOf = ({ stages, tripMs }) => ({ ...stages, around: Math.max(0, tripMs - (stages.total ?? 0)) });

export class Pane {
  #active = null; #picked = null; #look = null; #shown = []; #objects = []; #drawn = {};

  /** @param {(text: string) => void} announce Says something to screen readers, and in the status line. */
  constructor(announce) {
    this.announce = announce;
    this.title = make("h2");
    this.facts = make("p", { class: "hint" });
    this.picture = make("canvas", { "aria-hidden": "true" });
    this.overlay = make("canvas", { role: "img", class: "overlay" });
    this.frame = make("div", { class: "frame" }, this.picture, this.overlay);
    this.stage = make("div", { class: "stage", role: "group", "aria-label": "Picture" }, this.frame);
    this.counts = make("ul", { class: "counts" });
    this.times = make("div", { class: "times" });
    this.table = new Table("What was found", {
      point: index => this.#point(index), pick: index => this.#pick(index, false), sorted: () => this.#redraw(),
    });
    const button = (name, done) => {
      const made = make("button", { type: "button" }, name);
      made.addEventListener("click", done);
      return made;
    };
    this.actions = make("div", { class: "actions" },
      button("Copy JSON", () => copyText(this.#saved()).then(this.announce)),
      button("Save JSON", () => this.announce(saveText(this.#saved()))),
      button("Save picture", () => savePicture(this.#saved()).then(this.announce)));
    this.under = make("div", { class: "under" },
      make("div", { class: "list" }, this.counts, this.table.root, this.actions), this.times);
    this.root = make("section", { class: "pane" }, make("header", {}, this.title, this.facts), this.stage, this.under);
    this.overlay.addEventListener("pointermove", event => this.#point(this.#at(event)));
    this.overlay.addEventListener("pointerleave", () => this.#point(null));
    this.overlay.addEventListener("click", event => this.#pick(this.#at(event), true));
    new ResizeObserver(() => this.#redraw()).observe(this.stage);
    addEventListener("resize", () => this.#redraw()); // also when the page is zoomed, or comes to another screen
  }

  /**
   * Show what there is.
   * @param {{model, name, bitmap, answer, zoom, threshold, hidden, show, colorOf, only}} look The model as the server
   *   describes it; the name and the pixels of the picture (null if it cannot be shown); the answer (null until it is
   *   there); its size on the screen; what is filtered and drawn; the indices that only this model found (null without another model).
   */
  update(look) {
    const before = this.#look;
    if (before?.answer !== look.answer || before?.bitmap !== look.bitmap) this.#active = null;
    if (before?.name !== look.name || before?.model.name !== look.model.name) this.#picked = null;
    this.#look = look;
    const { model, answer, only } = look;
    this.#objects = answer ? objectsOf(answer.record) : [];
    this.#shown = filtered(this.#objects, look.threshold, look.hidden)
      .map(one => ({ ...one, found: only && (only.has(one.index) ? "only this" : "both") }));
    this.title.replaceChildren(word(model.name));
    this.facts.textContent = factsOf(model);
    this.facts.classList.toggle("warn", Boolean(model.problem));
    this.#showCounts();
    this.#showTimes();
    this.under.hidden = !answer;
    this.#redraw();
  }

  /** The objects that are shown. */
  get shown() { return this.#shown; }

  /** "3 objects: 2 cat, 1 dog", for screen readers. */
  get summary() {
    const { answer } = this.#look;
    if (!answer) return "no answer yet";
    if (isClassification(answer.record)) return this.#shown.slice(0, 1).map(one => `${short(one.name)} ${one.score.toFixed(2)}`)[0] ?? "no class";
    const counts = [...countsOf(this.#shown)].map(([name, count]) => `${count} ${short(name)}`);
    return `${counted(this.#shown.length, "object")}${counts.length ? `: ${counts.join(", ")}` : ""}`;
  }

  #color = one => css(this.#look.colorOf(one));

  #showCounts() {
    const { answer } = this.#look, isObjects = answer && !isClassification(answer.record);
    this.counts.replaceChildren();
    if (!answer) return;
    const all = counted(this.#shown.length, isObjects ? "object" : "class", isObjects ? "objects" : "classes");
    const below = this.#objects.length - this.#shown.length;
    this.counts.append(make("li", { class: "all" }, all, below ? make("span", { class: "hint" }, ` of ${this.#objects.length}`) : ""));
    if (answer.record.complete === false) this.counts.append(make("li", { class: "warn" }, "there were more candidates than the model may keep"));
    for (const [name, count] of isObjects ? countsOf(this.#shown) : []) {
      const swatch = make("span", { class: "swatch", "aria-hidden": "true" });
      swatch.style.background = this.#color(this.#shown.find(one => one.name === name));
      this.counts.append(make("li", {}, swatch, `${count} `, word(name)));
    }
  }

  #showTimes() {
    const { answer } = this.#look;
    this.times.replaceChildren();
    if (!answer) return;
    const times = stagesOf(answer), bar = make("div", { class: "bar", "aria-hidden": "true" }), list = make("dl");
    for (const [stage, name] of STAGES) {
      if (times[stage] === undefined) continue;
      const part = make("span", { class: stage });
      part.style.flexGrow = times[stage];
      bar.append(part);
      list.append(make("div", {}, make("dt", {}, make("span", { class: `swatch ${stage}`, "aria-hidden": "true" }), name), make("dd", {}, milliseconds(times[stage]))));
    }
    list.append(make("div", { class: "sum" }, make("dt", {}, "answer after"), make("dd", {}, milliseconds(answer.tripMs))));
    this.times.append(make("h3", {}, "Time"), bar, list);
  }

  #redraw() {
    const look = this.#look;
    if (!look) return;
    const { task } = look.model, has = { box: task !== "classify", angle: task === "obb", found: look.only !== null };
    this.table.update(this.#shown, { active: this.#active, picked: this.#picked, has, colorOf: this.#color });
    const [width, height] = sizeOf(look);
    this.frame.hidden = !width;
    if (!width || !this.stage.clientWidth) return;
    const tallest = Math.max(LEAST_HEIGHT_PX, innerHeight * TALLEST);
    const scale = look.zoom || Math.min(this.stage.clientWidth / width, tallest / height, LARGEST_SCALE);
    const [cssWidth, cssHeight] = [Math.max(1, Math.floor(width * scale)), Math.max(1, Math.floor(height * scale))];
    const dots = Math.min(devicePixelRatio || 1, MOST_SIDE / Math.max(cssWidth, cssHeight), Math.sqrt(MOST_PIXELS / (cssWidth * cssHeight)));
    const isScrolled = look.zoom > 0 && (cssWidth > this.stage.clientWidth || cssHeight > 0.8 * innerHeight);
    this.stage.classList.toggle("zoomed", look.zoom > 0);
    if (isScrolled) this.stage.tabIndex = 0; else this.stage.removeAttribute("tabindex"); // the arrow keys scroll it
    const key = [cssWidth, cssHeight, dots].join();
    for (const canvas of [this.picture, this.overlay]) {
      if (this.#drawn.key === key) continue;
      canvas.width = Math.round(cssWidth * dots);
      canvas.height = Math.round(cssHeight * dots);
      canvas.style.width = `${cssWidth}px`;
      canvas.style.height = `${cssHeight}px`;
    }
    if (this.#drawn.key !== key || this.#drawn.bitmap !== look.bitmap) paint(this.picture, look.bitmap);
    this.#drawn = { key, bitmap: look.bitmap, scale: cssWidth / width };
    const context = this.overlay.getContext("2d"), letterPx = parseFloat(getComputedStyle(document.documentElement).fontSize);
    context.setTransform(dots, 0, 0, dots, 0, 0);
    context.clearRect(0, 0, cssWidth, cssHeight);
    this.#draw(context, {
      width: cssWidth, height: cssHeight, scale: cssWidth / width, linePx: 2, textPx: letterPx * 0.8125,
      leastTextPx: letterPx * 0.65, active: this.#active ?? this.#picked,
    });
    this.overlay.setAttribute("aria-label", `${plain(look.name)}: ${this.summary}`);
  }

  #draw(context, measures) {
    const { show, colorOf, only, answer } = this.#look, look = { ...measures, show, colorOf, only };
    if (answer && isClassification(answer.record)) drawClass(context, this.#shown[0], look);
    else drawObjects(context, this.#shown, look);
  }

  #point(index) {
    if (index === this.#active) return;
    this.#active = index;
    this.#redraw();
  }

  #pick(index, isInPicture) {
    this.#picked = index === this.#picked ? null : index;
    this.#redraw();
    if (index === null) return;
    if (isInPicture) return this.table.reveal(index);
    const { box } = this.#objects.find(one => one.index === index), { scale } = this.#drawn;
    if (!box) return;
    this.stage.scrollTo(((box[0] + box[2]) / 2) * scale - this.stage.clientWidth / 2, ((box[1] + box[3]) / 2) * scale - this.stage.clientHeight / 2);
  }

  #at(event) {
    const { scale } = this.#drawn, place = this.overlay.getBoundingClientRect();
    return objectAt(this.#shown, (event.clientX - place.left) / scale, (event.clientY - place.top) / scale)?.index ?? null;
  }

  #saved() {
    const { name, model, bitmap, answer } = this.#look, [width, height] = sizeOf(this.#look);
    return {
      name, model: model.name, bitmap, width, height, record: answer.record, objects: this.#shown,
      draw: (context, measures) => this.#draw(context, { ...measures, active: null }),
    };
  }
}

/** The size in which the server saw the picture; before its answer, that in which this browser sees it. */
function sizeOf({ answer, bitmap }) {
  return answer ? [answer.record.width, answer.record.height] : [bitmap?.width ?? 0, bitmap?.height ?? 0];
}

const TASKS = { detect: "boxes", segment: "masks", pose: "keypoints", obb: "oriented boxes", classify: "classes of the whole image" };

function factsOf(model) {
  if (model.problem) return `The model's new file was refused, and the old one answers: ${plain(model.problem)}`;
  const [height, width] = model.input_hw;
  return `${TASKS[model.task] ?? model.task} · ${counted(model.class_names.length, "class", "classes")} · input ${width} × ${height} · ${model.runtime} on ${model.device}`;
}

/** The colour of each class name: that of its id in the first model that has it, so that two models agree. */
export function colorsOf(models) {
  const ids = new Map();
  models.forEach((model, place) => model.class_names.forEach((name, id) => {
    if (!ids.has(name)) ids.set(name, place ? ids.size : id);
  }));
  return one => classColor(ids.get(one.name) ?? one.classId);
}
