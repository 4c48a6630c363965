// The pictures that were chosen: a group of radio buttons, so that the arrow keys walk through them.

import { counted, make, plain } from "./elements.js";

const THUMB_PX = 112;

export class Strip {
  #thumbs = []; #drawing = 0;

  /** @param {HTMLFieldSetElement} root Empty. @param {(place: number) => void} chosen Called for another picture. */
  constructor(root, chosen) {
    this.root = root;
    this.list = make("div", { class: "thumbs" });
    this.legend = make("legend");
    root.append(this.legend, this.list);
    root.addEventListener("change", event => chosen(Number(event.target.value)));
  }

  /** Show these pictures, and which of them is selected. There may have been more than are taken. */
  async show(pictures, selected, given) {
    const drawing = ++this.#drawing;
    this.root.hidden = pictures.length < 2;
    this.legend.textContent = given > pictures.length
      ? `The first ${counted(pictures.length, "picture")} of ${given.toLocaleString("en")}` : counted(pictures.length, "picture");
    this.#thumbs = pictures.map((picture, place) => {
      const canvas = make("canvas", { width: 1, height: 1, "aria-hidden": "true" }), note = make("span", { class: "note" });
      const input = make("input", { type: "radio", name: "picture", value: String(place), checked: place === selected, class: "unseen" });
      const label = make("label", { title: plain(picture.name) }, input, canvas, make("span", { class: "unseen" }, plain(picture.name)), note);
      return { canvas, note, label };
    });
    this.list.replaceChildren(...this.#thumbs.map(one => one.label));
    if (this.root.hidden) return;
    for (const [place, picture] of pictures.entries()) { // one after the other: each decodes a whole picture
      let small = null;
      try { small = await createImageBitmap(picture.file, { resizeHeight: THUMB_PX, resizeQuality: "medium" }); } catch { /* stays grey */ }
      if (drawing !== this.#drawing) return;
      const { canvas } = this.#thumbs[place];
      canvas.width = small?.width ?? THUMB_PX;
      canvas.height = THUMB_PX;
      if (small) canvas.getContext("2d").drawImage(small, 0, 0);
      small?.close();
    }
  }

  /** Write a short note under a picture. */
  note(place, text) {
    if (this.#thumbs[place]) this.#thumbs[place].note.textContent = text;
  }
}
