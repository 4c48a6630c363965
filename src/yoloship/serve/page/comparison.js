// How the answers of two models to the same picture differ: counts of each class, what only one found, times.

import { make, milliseconds, word } from "./elements.js";
import { countsOf, SAME_IOU } from "./record.js";

/**
 * Show the differences.
 * @param {HTMLElement} root What is shown there is replaced.
 * @param {{model, shown: object[], both: Set<number>, answer}[]} sides The two models, what is shown of each, the
 *   indices that the other one found too, and the answers.
 */
export function showComparison(root, sides) {
  const counts = sides.map(({ shown }) => countsOf(shown)), names = new Set(counts.flatMap(one => [...one.keys()]));
  const rows = [...names].map(name => row(make("th", { scope: "row" }, word(name)), counts.map(one => one.get(name) ?? 0)));
  rows.push(row(make("th", { scope: "row" }, "all"), sides.map(({ shown }) => shown.length), "sum"));
  rows.push(row(make("th", { scope: "row" }, "only this model"), sides.map(({ shown, both }) => shown.filter(one => !both.has(one.index)).length), "", false));
  rows.push(row(make("th", { scope: "row" }, "answer after"), sides.map(({ answer }) => answer.tripMs), "", true, milliseconds));
  const head = make("tr", {}, make("td"), ...sides.map(({ model }) => make("th", { scope: "col" }, word(model.name))), make("th", { scope: "col" }, "Difference"));
  root.replaceChildren(
    make("h2", {}, "The two models"),
    make("div", { class: "scroll" }, make("table", {}, make("caption", { class: "unseen" }, "Counts and times of the two models"), make("thead", {}, head), make("tbody", {}, ...rows))),
    make("p", { class: "hint" }, `Both found an object if its class is the same and the boxes overlap by at least ${SAME_IOU} (IoU). What only one found has a dashed outline.`),
  );
}

function row(head, [first, second], kind = "", hasDifference = true, text = String) {
  const difference = second - first, sign = difference > 0 ? "+" : difference < 0 ? "−" : "";
  const cell = content => make("td", { class: "number" }, content);
  const made = make("tr", { class: kind }, head, cell(text(first)), cell(text(second)),
    cell(hasDifference ? `${sign}${text(Math.abs(difference))}` : ""));
  if (hasDifference && difference && text === String) made.classList.add("differs");
  return made;
}
