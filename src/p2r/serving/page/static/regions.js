// The pixels of one image: a preview of the whole and, over it, what is in view at the screen's resolution.
// A rectangle is [x0, y0, x1, y1] in pixels of the image; a density is pixels of a bitmap for each of these.
import { region } from "./server.js";

const PREVIEW = 2_000_000, MOST = 9_000_000, HELD = 40_000_000; // pixels
const MARGIN = 0.2; // around what is in view, of its sides: to pan into

const area = ([x0, y0, x1, y1]) => Math.max(0, x1 - x0) * Math.max(0, y1 - y0);
const holds = (a, b) => a[0] <= b[0] && a[1] <= b[1] && a[2] >= b[2] && a[3] >= b[3];
export const meet = (a, b) =>
  [Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])];

export class Regions {
  #layers = []; // {rect, bitmap, density}, the oldest first
  #loading = null; // an AbortController, with the rect and density of what it stops

  // The image has its id when the server has it. `tell` gets "loading", "loaded", or "failed" and an error.
  constructor(image, bitmap, tell) {
    Object.assign(this, { image, tell, whole: [0, 0, image.width, image.height] });
    if (bitmap) this.#layers.push({ rect: this.whole, bitmap, density: bitmap.width / image.width });
  }

  get empty() { return !this.#layers.length; }

  close() {
    this.#loading?.abort();
    this.closed = true;
  }

  // Get what is not here yet, one region at a time. `view` tells what is in view and how sharp.
  want(view) {
    const { seen, sharp } = view(), inside = this.empty ? this.whole : seen;
    if (!this.image.id || this.closed || !area(seen)) return;
    const [most, wished] = this.empty ? [PREVIEW, 1] : [MOST, sharp];
    const density = Math.min(1, wished, Math.sqrt(most / area(inside)));
    if (this.#loading) {
      const useful = area(meet(this.#loading.rect, seen)) > 0 && this.#loading.density >= density / 2;
      if (this.empty || useful) return;
      this.#loading.abort();
    }
    const margin = Math.min(MARGIN, (Math.sqrt(MOST / area(inside)) / density - 1) / 2);
    // It is asked for when half of the margin is left, so that panning meets no blur.
    const near = this.#around(inside, margin / 2);
    if (this.#layers.some((layer) => holds(layer.rect, near) && layer.density >= density * 0.99)) return;
    this.#load(this.#around(inside, margin), density).then((loaded) => loaded && this.want(view));
  }

  #around([x0, y0, x1, y1], share) {
    const [dx, dy] = [share * (x1 - x0), share * (y1 - y0)];
    const [left, top, right, bottom] = meet([x0 - dx, y0 - dy, x1 + dx, y1 + dy], this.whole);
    return [Math.floor(left), Math.floor(top), Math.ceil(right), Math.ceil(bottom)];
  }

  async #load(rect, density) {
    const sides = [rect[2] - rect[0], rect[3] - rect[1]];
    const size = sides.map((side) => Math.max(1, Math.round(side * density)));
    const loading = this.#loading = Object.assign(new AbortController(), { rect, density });
    this.tell("loading");
    try {
      const bitmap = await region(this.image.id, rect, size, loading.signal);
      if (loading.signal.aborted) return false;
      this.#layers.push({ rect, bitmap, density });
      this.#forget();
    } catch (error) {
      if (!loading.signal.aborted) this.tell("failed", error);
      return false;
    } finally {
      if (this.#loading === loading) this.#loading = null;
    }
    this.tell("loaded");
    return true;
  }

  #forget() { // the oldest, but never the preview
    const held = () => this.#layers.reduce((sum, { bitmap: { width, height } }) => sum + width * height, 0);
    while (this.#layers.length > 2 && held() > HELD) this.#layers.splice(1, 1)[0].bitmap.close();
  }

  // Draw what is in view; `scale` is pixels of the canvas per pixel of the image.
  draw(context, seen, scale) {
    context.imageSmoothingQuality = "high";
    for (const { rect, bitmap, density } of this.#layers.toSorted((a, b) => a.density - b.density)) {
      context.imageSmoothingEnabled = density < 1 || scale < 4; // pixels are squares when they are large
      const [x0, y0, x1, y1] = rect;
      if (area(meet(rect, seen))) context.drawImage(bitmap, x0, y0, x1 - x0, y1 - y0);
    }
  }
}
