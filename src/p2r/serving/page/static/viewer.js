// An image on a canvas: zoom and pan by wheel, pinch, drag and keys. Under everything lies a preview of the whole;
// what is in view comes from the server at the resolution of the screen.
import { region } from "./server.js";

const PREVIEW = 2_000_000, AHEAD = 3_000_000, MOST = 9_000_000, HELD = 40_000_000; // pixels
const MAX_SCALE = 40, FLIGHT_MS = 500;
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const area = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);
const meet = (a, b) => [Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])];
const holds = (a, b) => a[0] <= b[0] && a[1] <= b[1] && a[2] >= b[2] && a[3] >= b[3];

export class Viewer extends EventTarget {
  image = null; // {id, width, height}; the id comes when the server has it
  view = { x: 0, y: 0, scale: 1 }; // the pixel of the image at the top left, and points of the screen per pixel
  insets = [0, 0, 0, 0]; // top, right, bottom, left: what covers the viewer
  #layers = []; // {rect, bitmap, density}, the oldest first; pixels of the bitmap per pixel of the image
  #pointers = new Map();
  #loading = null;
  #flight = 0;
  #goal = null; // where a flight ends
  constructor(root) {
    super();
    this.root = root;
    this.canvas = root.querySelector("canvas");
    this.context = this.canvas.getContext("2d", { alpha: false });
    new ResizeObserver(() => this.#resized()).observe(root);
    root.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    root.addEventListener("pointerdown", (event) => this.#down(event));
    root.addEventListener("pointermove", (event) => this.#move(event));
    for (const kind of ["pointerup", "pointercancel"]) root.addEventListener(kind, (event) => this.#up(event));
    root.addEventListener("dblclick", (event) => { if (!event.target.closest("button")) this.zoom(2.5, this.#at(event)); });
    root.addEventListener("keydown", (event) => this.#key(event));
  }
  open(image, bitmap) {
    this.image = image?.width ? image : null;
    this.#loading?.abort();
    this.#loading = null;
    this.#layers = [];
    if (!this.image) return this.#draw();
    if (bitmap) this.#add([0, 0, image.width, image.height], bitmap);
    this.fit(false);
  }

  // The image has its id now; what was shown of it stays.
  refresh() { this.#want(); }
  get fitted() {
    const [top, right, bottom, left] = this.insets, { clientWidth: width, clientHeight: height } = this.root;
    const inside = [Math.max(60, width - left - right - 24), Math.max(60, height - top - bottom - 24)];
    return { inside, center: [left + (width - left - right) / 2, top + (height - top - bottom) / 2] };
  }
  fit(smooth = true) { if (this.image) this.fly([0, 0, this.image.width, this.image.height], { smooth }); }

  // Show a rectangle of the image as large as it fits, at most and at least at some scale.
  fly([x0, y0, x1, y1], { smooth = true, most = Infinity, least = 0 } = {}) {
    if (!this.image) return;
    const { inside, center } = this.fitted;
    const scale = this.#bounded(Math.max(least, Math.min(most, inside[0] / (x1 - x0), inside[1] / (y1 - y0))));
    this.#go({ scale, x: (x0 + x1) / 2 - center[0] / scale, y: (y0 + y1) / 2 - center[1] / scale }, smooth);
  }
  zoom(factor, at = this.fitted.center, smooth = true) {
    if (!this.image) return;
    const scale = this.#bounded((this.#goal ?? this.view).scale * factor), [x, y] = this.toImage(at);
    this.#go({ scale, x: x - at[0] / scale, y: y - at[1] / scale }, smooth);
  }
  own() { this.zoom(1 / (this.#goal ?? this.view).scale / devicePixelRatio); }
  #go(to, smooth) {
    const from = { ...this.view }, begin = performance.now(), flight = ++this.#flight, ratio = to.scale / from.scale;
    this.#goal = smooth && !calm.matches ? to : null;
    if (!this.#goal) return this.#show(to);
    this.#want(to);
    const step = (now) => {
      if (flight !== this.#flight) return;
      const t = Math.min(1, Math.max(0, now - begin) / FLIGHT_MS), scale = from.scale * ratio ** (1 - (1 - t) ** 3);
      // As much of the way as of the change of size, so that the point around which it zooms stays where it is.
      const share = Math.abs(ratio - 1) < 1e-3 ? 1 - (1 - t) ** 3 : (1 / from.scale - 1 / scale) / (1 / from.scale - 1 / to.scale);
      if (t === 1) this.#goal = null;
      this.#show(t < 1 ? { scale, x: from.x + (to.x - from.x) * share, y: from.y + (to.y - from.y) * share } : to, t < 1);
      if (t < 1) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }
  pan(dx, dy) { if (this.image) this.#go({ ...this.view, x: this.view.x - dx / this.view.scale, y: this.view.y - dy / this.view.scale }, false); }
  toImage([x, y]) { return [this.view.x + x / this.view.scale, this.view.y + y / this.view.scale]; }
  toScreen([x, y]) { return [(x - this.view.x) * this.view.scale, (y - this.view.y) * this.view.scale]; }
  #bounded(scale) {
    const { inside } = this.fitted, whole = Math.min(inside[0] / this.image.width, inside[1] / this.image.height);
    return Math.min(Math.max(MAX_SCALE, whole), Math.max(whole / 2, scale));
  }
  #show({ x, y, scale }, moving = false) {
    const { width, height } = this.image, { inside: [across, down] } = this.fitted;
    const [cx, cy] = this.fitted.center.map((each) => each / scale);
    const keep = (at, middle, side, room) => { // some of the image is always in sight
      const slack = Math.min(side, room / scale) / 4;
      return Math.min(side - slack, Math.max(slack, at + middle)) - middle;
    };
    this.view = { scale, x: keep(x, cx, width, across), y: keep(y, cy, height, down) };
    this.#draw();
    if (!moving) this.#want();
    this.dispatchEvent(new Event("view"));
  }
  #resized() {
    const ratio = devicePixelRatio, { clientWidth, clientHeight } = this.root;
    this.canvas.width = Math.round(clientWidth * ratio);
    this.canvas.height = Math.round(clientHeight * ratio);
    this.#draw();
    this.dispatchEvent(new Event("resized"));
  }
  #draw() {
    const { context, canvas, view } = this, ratio = canvas.width / (this.root.clientWidth || 1);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = getComputedStyle(this.root).backgroundColor;
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (!this.image) return;
    context.setTransform(ratio * view.scale, 0, 0, ratio * view.scale, -view.x * view.scale * ratio,
      -view.y * view.scale * ratio);
    context.imageSmoothingQuality = "high";
    for (const { rect, bitmap, density } of this.#layers.toSorted((a, b) => a.density - b.density)) {
      context.imageSmoothingEnabled = density < 1 || view.scale * ratio < 4; // pixels are squares when they are large
      if (area(meet(rect, this.#seen())) > 0) context.drawImage(bitmap, rect[0], rect[1], rect[2] - rect[0], rect[3] - rect[1]);
    }
  }
  #seen(view = this.view) { // the part of the image on the screen
    const { clientWidth, clientHeight } = this.root;
    const all = [view.x, view.y, view.x + clientWidth / view.scale, view.y + clientHeight / view.scale];
    return meet(all, [0, 0, this.image.width, this.image.height]);
  }

  // Get what is in view, one region at a time; the newest wish counts.
  #want(view = this.view) {
    const image = this.image, whole = image && [0, 0, image.width, image.height];
    if (!image?.id) return;
    if (this.#loading) { if (area(meet(this.#loading.rect, this.#seen(view))) > 0) return; this.#loading.abort(); }
    const first = !this.#layers.length, seen = first ? whole : this.#seen(view);
    const density = first ? Math.min(1, Math.sqrt(PREVIEW / area(whole)))
      : Math.min(1, view.scale * devicePixelRatio, Math.sqrt(MOST / Math.max(1, area(seen))));
    if (seen[2] <= seen[0] || seen[3] <= seen[1]) return;
    if (this.#layers.some((layer) => holds(layer.rect, seen) && layer.density >= density * 0.99)) return;
    const more = Math.max(0, Math.sqrt(AHEAD / density ** 2 / area(seen)) - 1) / 2; // a margin, to pan into
    const [dx, dy] = [Math.min(0.3, more) * (seen[2] - seen[0]), Math.min(0.3, more) * (seen[3] - seen[1])];
    const wide = meet([seen[0] - dx, seen[1] - dy, seen[2] + dx, seen[3] + dy], whole);
    const rect = [Math.floor(wide[0]), Math.floor(wide[1]), Math.ceil(wide[2]), Math.ceil(wide[3])];
    this.#load(image, rect, density);
  }
  async #load(image, rect, density) {
    const loading = this.#loading = Object.assign(new AbortController(), { rect });
    const sides = [rect[2] - rect[0], rect[3] - rect[1]];
    const size = sides.map((side) => Math.max(1, Math.min(side, Math.round(side * density))));
    try {
      const bitmap = await region(image.id, rect, size, loading.signal);
      if (this.image === image && this.#loading === loading) this.#add(rect, bitmap);
    } catch (error) {
      if (error.name !== "AbortError") this.dispatchEvent(new CustomEvent("failed", { detail: error }));
      if (this.#loading === loading) this.#loading = null;
      return;
    }
    if (this.#loading !== loading) return;
    this.#loading = null;
    this.#want();
  }
  #add(rect, bitmap) {
    this.#layers.push({ rect, bitmap, density: bitmap.width / (rect[2] - rect[0]) });
    const size = ({ bitmap: { width, height } }) => width * height;
    while (this.#layers.length > 2 && this.#layers.reduce((sum, each) => sum + size(each), 0) > HELD)
      this.#layers.splice(1, 1)[0].bitmap.close();
    this.#draw();
    this.dispatchEvent(new Event("region"));
  }

  // What people do.
  #at(event) { const { left, top } = this.root.getBoundingClientRect(); return [event.clientX - left, event.clientY - top]; }
  #wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 30 : event.deltaMode === 2 ? 400 : 1;
    this.zoom(Math.exp(-Math.max(-300, Math.min(300, event.deltaY * lines)) * (event.ctrlKey ? 0.01 : 0.002)),
      this.#at(event), false);
  }
  #down(event) {
    if (!this.image || event.button > 0 || event.defaultPrevented || event.target.closest("button")) return;
    this.root.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, this.#at(event));
    this.moved = 0;
  }
  #move(event) {
    const before = this.#pointers.get(event.pointerId), now = this.#at(event);
    if (!before) return;
    this.#pointers.set(event.pointerId, now);
    const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    this.moved += Math.hypot(dx, dy);
    const other = [...this.#pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (!other) return this.pan(dx, dy);
    const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]) || 1;
    this.pan(dx / 2, dy / 2);
    this.zoom(apart(now) / apart(before), [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2], false);
  }
  #up(event) { this.#pointers.delete(event.pointerId); }
  #key(event) {
    if (event.target !== this.root || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowLeft: [80, 0], ArrowRight: [-80, 0], ArrowUp: [0, 80], ArrowDown: [0, -80] }[event.key];
    if (step) this.pan(...step);
    else if (event.key === "+" || event.key === "=") this.zoom(1.5);
    else if (event.key === "-") this.zoom(1 / 1.5);
    else if (event.key === "0") this.fit();
    else if (event.key === "1") this.own();
    else return;
    event.preventDefault();
  }
}
