// Draws what was found on a canvas: with the colours, the skeleton and the order of yoloship's own images.

import { short } from "./elements.js";
import { Places } from "./place.js";

const GOLDEN_ANGLE_TURNS = 0.38196601125, LIGHTNESS = [0.5, 0.62, 0.42], SATURATION = 0.9;
const TINT = 0.45, VISIBLE = 0.5, MOST_LABELS = 400;
const HEAD = [255, 220, 80], LEFT = [40, 170, 255], RIGHT = [255, 90, 70], TRUNK = [120, 230, 120];
const LIMBS = [
  [15, 13, LEFT], [13, 11, LEFT], [16, 14, RIGHT], [14, 12, RIGHT], [11, 12, TRUNK], [5, 11, TRUNK], [6, 12, TRUNK],
  [5, 6, TRUNK], [5, 7, LEFT], [6, 8, RIGHT], [7, 9, LEFT], [8, 10, RIGHT], [1, 2, HEAD], [0, 1, HEAD], [0, 2, HEAD],
  [1, 3, HEAD], [2, 4, HEAD], [3, 5, HEAD], [4, 6, HEAD],
];

/** The colour of a class: red, green and blue from 0 to 255, as in yoloship's own images. */
export function classColor(classId) {
  if (classId < 0) return [160, 160, 160];
  const hue = (0.02 + classId * GOLDEN_ANGLE_TURNS) % 1, lightness = LIGHTNESS[classId % 3];
  const high = lightness <= 0.5 ? lightness * (1 + SATURATION) : lightness + SATURATION - lightness * SATURATION;
  const low = 2 * lightness - high;
  const channel = turn => {
    const h = ((turn % 1) + 1) % 1;
    if (h < 1 / 6) return low + (high - low) * h * 6;
    if (h < 1 / 2) return high;
    return h < 2 / 3 ? low + (high - low) * (2 / 3 - h) * 6 : low;
  };
  return [hue + 1 / 3, hue, hue - 1 / 3].map(turn => Math.round(channel(turn) * 255));
}

/** Black or white: the one that is easier to read on a colour (WCAG 2.2, relative luminance). */
export function inkOn(color) {
  const [r, g, b] = color.map(one => (one / 255 <= 0.03928 ? one / 255 / 12.92 : ((one / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
}

export const css = ([r, g, b], alpha = 1) => `rgb(${r} ${g} ${b} / ${alpha})`;

/** Fill a canvas with a picture, or with an even grey if this browser cannot show it. */
export function paint(canvas, bitmap) {
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#8a929c";
  context.fillRect(0, 0, canvas.width, canvas.height);
  if (bitmap) context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
}

/**
 * Draw objects; earlier ones are on top of later ones.
 * @param {CanvasRenderingContext2D} context Its unit is a unit of the canvas below.
 * @param {object[]} objects As `objectsOf` gives them.
 * @param {{width, height, scale, linePx, textPx, show: {boxes, labels, masks, keypoints}, colorOf, active, only}} look
 *   The size of the canvas; its units in a pixel of the image; the widths of lines and letters; what is drawn; the
 *   colour of an object; the index of the object that is pointed at; the indices of those that only this model found.
 */
export function drawObjects(context, objects, look) {
  const { show, active, only } = look, last = [...objects].reverse();
  if (active !== null && active !== undefined) last.sort((a, b) => (a.index === active) - (b.index === active));
  context.lineJoin = "round";
  context.lineCap = "round";
  if (show.masks) for (const one of last) drawMask(context, one, look);
  if (show.boxes) {
    for (const one of last) {
      const path = outline(one, look.scale);
      if (!path) continue;
      const isActive = one.index === active, color = look.colorOf(one);
      if (isActive) { context.fillStyle = css(color, 0.25); context.fill(path); }
      const width = look.linePx * (isActive ? 2 : 1);
      context.strokeStyle = css(color.map(part => part >> 2));
      context.lineWidth = width + 1.5;
      context.stroke(path);
      context.setLineDash(only?.has(one.index) ? [3 * width, 2.5 * width] : []);
      context.strokeStyle = css(color);
      context.lineWidth = width;
      context.stroke(path);
      context.setLineDash([]);
    }
  }
  if (show.keypoints) for (const one of last) if (one.keypoints) drawKeypoints(context, one.keypoints, look);
  const named = show.labels ? objects : objects.filter(one => one.index === active);
  drawLabels(context, named, look);
}

/** Draw the best class of a classification in the upper left corner. */
export function drawClass(context, best, look) {
  if (look.show.labels && best) drawLabels(context, [{ ...best, box: [0, 0, look.width / look.scale, look.height / look.scale] }], look);
}

function outline({ box, corners }, scale) {
  const points = corners ?? (box && [[box[0], box[1]], [box[2], box[1]], [box[2], box[3]], [box[0], box[3]]]);
  if (!points?.flat().every(Number.isFinite)) return null;
  return polygon(points.flat(), scale);
}

function polygon(numbers, scale, path = new Path2D()) {
  path.moveTo(numbers[0] * scale, numbers[1] * scale);
  for (let place = 2; place < numbers.length; place += 2) path.lineTo(numbers[place] * scale, numbers[place + 1] * scale);
  path.closePath();
  return path;
}

function drawMask(context, one, look) {
  if (!one.polygons) return;
  const path = new Path2D(), color = look.colorOf(one);
  for (const part of one.polygons) polygon(part, look.scale, path);
  context.fillStyle = css(color, one.index === look.active ? 0.65 : TINT);
  context.fill(path);
  context.strokeStyle = css(color);
  context.lineWidth = Math.max(1, look.linePx / 2);
  context.stroke(path);
}

function drawKeypoints(context, points, { scale, linePx }) {
  const places = points.map(([x, y, visibility = 1]) =>
    [x, y, visibility].every(Number.isFinite) && visibility >= VISIBLE ? [x * scale, y * scale] : null);
  const isPerson = places.length === 17;
  for (const [from, to, color] of isPerson ? LIMBS : []) {
    if (!places[from] || !places[to]) continue;
    context.beginPath();
    context.moveTo(...places[from]);
    context.lineTo(...places[to]);
    context.strokeStyle = css(color);
    context.lineWidth = linePx;
    context.stroke();
  }
  for (let index = places.length - 1; index >= 0; index--) {
    if (!places[index]) continue;
    const color = !isPerson ? classColor(index) : index < 5 ? HEAD : index % 2 ? LEFT : RIGHT;
    for (const [extra, shade] of [[1, color.map(part => part >> 2)], [0, color]]) {
      context.beginPath();
      context.arc(...places[index], 1.3 * linePx + extra, 0, 2 * Math.PI);
      context.fillStyle = css(shade);
      context.fill();
    }
  }
}

function drawLabels(context, objects, look) {
  const places = new Places(look.width, look.height, look.linePx), pad = Math.max(2, look.textPx / 4);
  const tags = [];
  context.textBaseline = "alphabetic";
  for (const one of objects.slice(0, MOST_LABELS)) {
    if (!one.box?.every(Number.isFinite)) continue;
    const box = one.box.map((value, side) => Math.max(0, Math.min(value * look.scale, side % 2 ? look.height : look.width)));
    let sizePx = look.textPx;
    const text = `${short(one.name)} ${one.score?.toFixed(2) ?? ""}`.trim();
    context.font = font(sizePx);
    const wide = context.measureText(text).width;
    if (wide > box[2] - box[0]) sizePx = Math.max(look.leastTextPx ?? 9, sizePx * Math.max(2 / 3, (box[2] - box[0]) / wide));
    context.font = font(sizePx);
    const shown = shortened(context, text, look.width - 2 * pad);
    const place = shown && places.find(box, context.measureText(shown).width + 2 * pad, sizePx + 2 * pad);
    if (place) tags.push({ one, shown, place, sizePx });
  }
  tags.reverse().sort((a, b) => (a.one.index === look.active) - (b.one.index === look.active));
  for (const { one, shown, place: [left, top, right, bottom], sizePx } of tags) {
    const color = look.colorOf(one);
    context.fillStyle = css(color);
    context.fillRect(left, top, right - left, bottom - top);
    context.fillStyle = inkOn(color);
    context.font = font(sizePx);
    context.fillText(shown, left + pad, top + pad + sizePx * 0.82);
  }
}

const font = sizePx => `500 ${sizePx}px system-ui, "Noto Sans", sans-serif`;

function shortened(context, text, room) {
  if (context.measureText(text).width <= room) return text;
  let low = 0, high = text.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (context.measureText(`${text.slice(0, middle)}…`).width <= room) low = middle; else high = middle - 1;
  }
  return low > 1 ? `${text.slice(0, low)}…` : null;
}
