// What a record of the server says, what of it is shown, and how two records differ. Nothing here draws or asks.

import { CONTROLS } from "./elements.js";

export const SAME_IOU = 0.5;

/**
 * The objects of a record; the classes of a classification are objects without a place.
 * @returns {{index, classId, name, score, box, corners, angle, polygons, keypoints}[]} In the order of the record.
 */
export function objectsOf(record) {
  return (record.detections ?? record.classes ?? []).map((one, index) => ({
    index,
    classId: one.class_id,
    name: one.class_name,
    score: one.score,
    box: one.box_xyxy ?? null,
    corners: one.corners_xy ?? null,
    angle: one.box_xywhr?.[4] ?? null,
    polygons: one.polygons ?? null,
    keypoints: one.keypoints ?? null,
  }));
}

/** Whether a record is the answer of a classification model. */
export const isClassification = record => Array.isArray(record.classes);

/** The objects with a score above a threshold, of classes that are not hidden. */
export const filtered = (objects, threshold, hidden) => objects.filter(one => one.score > threshold && !hidden.has(one.name));

/** How many objects there are of each class, the most first. */
export function countsOf(objects) {
  const counts = new Map();
  for (const { name } of objects) counts.set(name, (counts.get(name) ?? 0) + 1);
  return new Map([...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0])));
}

/** The server's record with only these objects, as text: one object a line. */
export function recordText(record, objects) {
  const kept = new Set(objects.map(one => one.index)), list = record.classes ? "classes" : "detections";
  const parts = Object.entries(record).map(([name, value]) => {
    if (name !== list) return ` ${JSON.stringify(name)}: ${JSON.stringify(value)}`;
    const rows = value.filter((_, index) => kept.has(index)).map(one => `  ${JSON.stringify(one)}`);
    return ` ${JSON.stringify(name)}: [${rows.length ? `\n${rows.join(",\n")}\n ` : ""}]`;
  });
  return `{\n${parts.join(",\n")}\n}\n`.replace(CONTROLS, letter =>
    letter === "\n" ? letter : `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** Intersection over union of two boxes, which are left, top, right and bottom. */
export function iou(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]), height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (!(width > 0 && height > 0)) return 0;
  const area = box => (box[2] - box[0]) * (box[3] - box[1]);
  return (width * height) / (area(a) + area(b) - width * height);
}

/**
 * Which objects two models found both: of the same class and with boxes that overlap, each object once, the best first.
 * @returns {[Set<number>, Set<number>]} The indices in each list of objects.
 */
export function inBoth(first, second) {
  const taken = [new Set(), new Set()];
  for (const one of first) {
    let best = null, most = SAME_IOU;
    for (const other of second) {
      if (other.name !== one.name || taken[1].has(other.index)) continue;
      const overlap = one.box && other.box ? iou(one.box, other.box) : 1;
      if (overlap >= most) [best, most] = [other, overlap];
    }
    if (best) { taken[0].add(one.index); taken[1].add(best.index); }
  }
  return taken;
}

/** Whether a point lies in an object's box, in pixels of the image. */
export function isAt({ box, corners }, x, y) {
  if (!corners) return box !== null && x >= box[0] && x <= box[2] && y >= box[1] && y <= box[3];
  const sides = corners.map(([x1, y1], place) => {
    const [x2, y2] = corners[(place + 1) % corners.length];
    return (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1);
  });
  return sides.every(side => side >= 0) || sides.every(side => side <= 0);
}

/** The object that a point means: the smallest of those that it lies in. */
export function objectAt(objects, x, y) {
  const area = ({ box }) => (box[2] - box[0]) * (box[3] - box[1]);
  return objects.filter(one => isAt(one, x, y)).sort((a, b) => area(a) - area(b))[0] ?? null;
}
