// Chooses places for labels: by the same rules as the images that yoloship draws itself.

/** The labels of one image, in units of the canvas. Earlier labels keep their place; later ones avoid them. */
export class Places {
  #taken = [];

  constructor(width, height, linePx) {
    Object.assign(this, { width, height, linePx });
  }

  /**
   * A place for a label of an object.
   * @param {number[]} box Left, top, right and bottom of the object.
   * @param {number} width Of the label.
   * @param {number} height Of the label.
   * @returns {number[] | null} Left, top, right and bottom; null if the image is too small for it.
   */
  find([left, top, right, bottom], width, height) {
    if (width > this.width || height > this.height) return null;
    const edge = this.linePx / 2, above = top - edge - height;
    let inside = top - edge, below = bottom + edge;
    if (bottom - top < 3 * height) [inside, below] = [below, inside]; // inside a small object it would hide it
    const options = [[left - edge, above], [right + edge - width, above], [left - edge, inside], [left - edge, below]]
      .filter(([, y]) => y >= 0 && y <= this.height - height);
    if (!options.length) options.push([left, Math.max(0, Math.min(top, this.height - height))]);
    let best = null, least = Infinity;
    for (const [x, y] of options) {
      const inX = Math.max(0, Math.min(x, this.width - width)), place = [inX, y, inX + width, y + height];
      const overlap = this.#taken.reduce((sum, other) => sum + shared(place, other), 0);
      if (overlap < least) [best, least] = [place, overlap];
    }
    this.#taken.push(best);
    return best;
  }
}

function shared(a, b) {
  return Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0])) * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
}
