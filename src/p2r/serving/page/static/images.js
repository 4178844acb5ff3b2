// The images of this session. Each is asked about under the id that the server gave to it, whatever is shown
// meanwhile: an image is {id, name, width, height, ready}, and `ready` ends when the server has it.
import { rememberImages, rememberedImages } from "./history.js";
import { $, el, explained, problem, status } from "./page.js";
import { json, regionUrl, upload } from "./server.js";

const LOCAL_BYTES = 15e6; // a file up to this size is shown before it was sent
const PREVIEW_SIDE = 3000; // pixels
const SHELF = 12;

// A rectangle of an image, at most so wide and high, never larger than it is.
export function thumbnail(id, rect, width, height) {
  const sides = [rect[2] - rect[0], rect[3] - rect[1]];
  const scale = Math.min(1, width / sides[0], height / sides[1]);
  const size = sides.map((side) => Math.max(1, Math.round(side * scale)));
  return el("img", { src: regionUrl(id, rect, size), alt: "", width: size[0], height: size[1] });
}

// What the browser itself can show of a file. A large bitmap would make each movement slow.
async function preview(file) {
  const whole = await createImageBitmap(file), { width, height } = whole;
  const scale = Math.min(1, PREVIEW_SIDE / Math.max(width, height));
  const [resizeWidth, resizeHeight] = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
  return { width, height, bitmap: await createImageBitmap(whole, { resizeWidth, resizeHeight }) };
}

export class Images {
  shown = null;
  #held = new Map(); // by id

  constructor({ onopen, onpick, onsent }) {
    Object.assign(this, { onopen, onpick, onsent });
  }

  // The image of a record of the server.
  known(record) {
    if (!this.#held.has(record.id)) this.#held.set(record.id, { ...record, ready: Promise.resolve() });
    return this.#held.get(record.id);
  }

  open(image, bitmap) {
    this.shown = image;
    this.onopen(image, bitmap);
    this.list();
  }

  list() {
    $("images").replaceChildren(...[...this.#held.values()].slice(-SHELF).map((image) => {
      const { id, name, width, height } = image, whole = [0, 0, width, height];
      const button = { type: "button", title: name, ariaLabel: name, ariaPressed: image === this.shown };
      return el("button", { ...button, onclick: () => this.onpick(image) }, thumbnail(id, whole, 160, 160));
    }));
  }

  // List what was remembered, as far as the server still holds it.
  async recall() {
    const ids = rememberedImages().map(({ id }) => id);
    if (ids.length) rememberImages(await json(`page/images?ids=${ids}`));
    for (const record of rememberedImages().toReversed()) this.known(record);
    this.list();
  }

  // Send files, or {name, url}, one after the other.
  async send(files) {
    for (const file of files) await this.#send(file);
    if (files.length && this.shown) $("question").focus();
  }

  async #send(file) {
    const image = { name: file.name || "pasted image" }, before = this.shown;
    problem("");
    status("transfer", `Sending ${image.name}`);
    image.ready = upload(file, (share) => {
      if (share < 1) status("transfer", `Sending ${image.name}`, `${Math.round(100 * share)} %`);
      else status("transfer", `Preparing ${image.name}`, performance.now());
    }).then((record) => this.#held.set(record.id, Object.assign(image, record)));
    image.ready.catch(() => null); // told below, and to a question that waits for it
    const local = file.size < LOCAL_BYTES && await preview(file).catch(() => null);
    if (local && !image.id && this.shown === before) {
      Object.assign(image, { width: local.width, height: local.height });
      this.open(image, local.bitmap);
    }
    try {
      await image.ready;
    } catch (error) {
      if (this.shown === image) this.open(null);
      return problem(`${image.name}: ${explained(error)}`);
    } finally {
      status("transfer", "");
    }
    rememberImages([image, ...rememberedImages()]);
    if (this.shown === before) this.open(image);
    else this.list();
    if (this.shown === image) this.onsent(image);
  }
}
