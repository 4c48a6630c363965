// The controls beside the picture: models, threshold, classes, what is drawn. None of the filters asks the server.

import { css } from "./drawing.js";
import { byId, make, plain, word } from "./elements.js";
import { countsOf } from "./record.js";

export const LOWEST = 0.05;
const DRAWN = ["boxes", "labels", "masks", "keypoints"];

export class Controls {
  /** Names of classes that are not shown. */
  hidden = new Set();
  #boxes = new Map();
  #isClassifier = null;

  /** @param {{filtered: () => void, asked: () => void}} told What happens after a filter, and after a new question. */
  constructor(told) {
    this.told = told;
    this.first = byId("model");
    this.second = byId("other");
    this.slider = byId("threshold");
    this.number = byId("threshold-number");
    this.lowest = byId("lowest");
    this.iou = byId("iou");
    this.classes = byId("classes");
    for (const field of [this.slider, this.number]) field.addEventListener("input", () => this.#takeThreshold(field.value));
    this.number.addEventListener("change", () => { this.number.value = this.slider.value; });
    this.lowest.addEventListener("change", () => this.#takeLowest());
    this.iou.addEventListener("change", () => this.#takeIou());
    for (const select of [this.first, this.second]) select.addEventListener("change", () => { this.forgetClasses(); told.asked(); });
    for (const name of DRAWN) byId(`draw-${name}`).addEventListener("change", () => told.filtered());
    byId("zoom").addEventListener("change", () => told.filtered());
    byId("all-classes").addEventListener("click", () => this.#showAll(true));
    byId("no-classes").addEventListener("click", () => this.#showAll(false));
  }

  /** The score that objects must be above to be shown. */
  get threshold() { return Number(this.slider.value); }

  /** What is drawn. */
  get show() { return Object.fromEntries(DRAWN.map(name => [name, byId(`draw-${name}`).checked])); }

  /** Screen pixels, as CSS counts them, for a pixel of the picture; 0 fits it into the window. */
  get zoom() { return Number(byId("zoom").value); }

  /** The names of the chosen models: one or two. */
  get names() { return [this.first.value, this.second.value].filter((name, place, all) => name && all.indexOf(name) === place); }

  /** Offer these models. */
  offer(models) {
    const options = () => models.map(({ name }) => make("option", { value: name }, name));
    const before = [this.first.value, this.second.value];
    this.first.replaceChildren(...options());
    this.second.replaceChildren(make("option", { value: "" }, "no other model"), ...options());
    for (const [place, select] of [this.first, this.second].entries()) {
      if (models.some(({ name }) => name === before[place])) select.value = before[place];
    }
    byId("other-field").hidden = models.length < 2;
  }

  /** Begin with the thresholds that a model has by itself. */
  begin(model) {
    this.#isClassifier = model.task === "classify";
    byId("lowest-field").hidden = this.#isClassifier;
    this.#limit();
    this.slider.value = this.#isClassifier ? 0 : Math.max(model.thresholds.conf, Number(this.lowest.value));
    this.#mirror();
  }

  /** What to ask a model: the lowest score is one that it can give, and the IoU is its own if nobody asks for another. */
  query(model) {
    if (model.task === "classify") return {};
    const conf = String(Math.max(Number(this.lowest.value), model.lowest_conf ?? 0));
    return this.iou.value === "" || model.iou_is_fixed ? { conf } : { conf, iou: this.iou.value };
  }

  /** Say what the models were asked for, and offer what they have. */
  describe(models) {
    if (this.#isClassifier !== (models[0].task === "classify")) this.begin(models[0]); // scores mean something else there
    const objects = models.filter(model => model.task !== "classify");
    byId("lowest-field").hidden = !objects.length;
    const parts = objects.map(model => ({ name: model.name, most: model.thresholds.max_det, ...this.query(model) }));
    const words = ({ conf, iou, most }) => `scores above ${conf}, ${iou ? `an IoU up to ${iou}, ` : ""}at most ${most} objects`;
    const free = objects.find(model => !model.iou_is_fixed);
    byId("iou-field").hidden = !free;
    this.iou.placeholder = free?.thresholds.iou ?? "";
    byId("asked").textContent = parts.length === 2 && words(parts[0]) !== words(parts[1])
      ? `Requested from the server: ${parts.map(part => `${words(part)} (${part.name})`).join("; ")}.`
      : parts.length ? `Requested from the server: ${words(parts[0])}.` : "A classification model gives its five best classes.";
    byId("draw-masks-field").hidden = !models.some(model => model.task === "segment");
    byId("draw-keypoints-field").hidden = !models.some(model => model.task === "pose");
    byId("draw-boxes-field").hidden = !objects.length;
    this.#limit();
  }

  /** Offer the classes of the objects of each model, and keep those that were offered before. */
  offerClasses(found, colorOf) {
    const objects = found.flat(), counts = found.map(list => countsOf(list.filter(one => one.score > this.threshold)));
    for (const name of countsOf(objects).keys()) {
      if (!this.#boxes.has(name)) this.#boxes.set(name, this.#classBox(name, colorOf(objects.find(one => one.name === name))));
    }
    for (const [name, { count, label }] of this.#boxes) {
      count.textContent = counts.map(one => one.get(name) ?? 0).join(" / ");
      if (!label.isConnected) this.classes.append(label);
    }
    byId("classes-field").hidden = this.#boxes.size === 0;
  }

  /** Offer no classes, until objects are found again. */
  forgetClasses() {
    this.#boxes.clear();
    this.classes.replaceChildren();
    byId("classes-field").hidden = true;
  }

  #classBox(name, color) {
    const input = make("input", { type: "checkbox", checked: !this.hidden.has(name) });
    const swatch = make("span", { class: "swatch", "aria-hidden": "true" }), count = make("span", { class: "number" });
    swatch.style.background = css(color);
    input.addEventListener("change", () => {
      if (input.checked) this.hidden.delete(name); else this.hidden.add(name);
      this.told.filtered();
    });
    return { input, count, label: make("label", { class: "chip", title: plain(name) }, input, swatch, word(name), " ", count) };
  }

  #showAll(isShown) {
    for (const [name, { input }] of this.#boxes) {
      input.checked = isShown;
      if (isShown) this.hidden.delete(name); else this.hidden.add(name);
    }
    this.told.filtered();
  }

  #takeThreshold(text) {
    const value = Number(text), least = Number(this.lowest.value);
    if (text === "" || !Number.isFinite(value) || value > 1) return;
    this.slider.value = Math.max(value, Number(this.slider.min));
    if (value >= least) this.#mirror();
    this.told.filtered();
  }

  #takeLowest() {
    const value = Number(this.lowest.value);
    if (this.lowest.value === "" || !Number.isFinite(value)) this.lowest.value = LOWEST;
    else this.lowest.value = Math.min(Math.max(value, 0), 0.99);
    this.#limit();
    this.told.asked();
  }

  #takeIou() {
    if (this.iou.value !== "") this.iou.value = Math.min(Math.max(Number(this.iou.value), 0), 1);
    this.told.asked();
  }

  #limit() {
    const isObjects = !byId("lowest-field").hidden;
    this.slider.min = this.number.min = isObjects ? this.lowest.value : 0;
    this.#mirror();
  }

  #mirror() {
    if (document.activeElement !== this.number) this.number.value = this.slider.value;
    this.slider.setAttribute("aria-valuetext", `scores above ${this.slider.value}`);
  }
}
