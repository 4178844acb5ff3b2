// An image on a canvas: zoom and pan by wheel, pinch, drag and keys.
import { Regions, meet } from "./regions.js";

const MAX_SCALE = 40; // points of the screen per pixel of the image
const FLIGHT_MS = 500, REST_MS = 60; // of a flight; between two looks at what is in view
const STEPS = { ArrowLeft: [80, 0], ArrowRight: [-80, 0], ArrowUp: [0, 80], ArrowDown: [0, -80] }; // points
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class Viewer extends EventTarget {
  image = null; // {id, width, height}; the id comes when the server has it
  view = { x: 0, y: 0, scale: 1 }; // the pixel of the image at the top left; points of the screen per pixel
  insets = [0, 0, 0, 0]; // top, right, bottom, left: points of the screen that something covers
  moved = 0; // by the last drag, in points
  #regions = null;
  #pointers = new Map(); // where each is
  #flight = 0;
  #goal = null; // the view at which a flight ends
  #rest = null;

  constructor(root) {
    super();
    this.root = root;
    this.canvas = root.querySelector("canvas");
    this.context = this.canvas.getContext("2d", { alpha: false });
    new ResizeObserver(() => this.#resized()).observe(root);
    root.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    root.addEventListener("pointerdown", (event) => this.#down(event));
    root.addEventListener("pointermove", (event) => this.#move(event));
    for (const kind of ["pointerup", "pointercancel"])
      root.addEventListener(kind, (event) => this.#pointers.delete(event.pointerId));
    root.addEventListener("dblclick", (event) => {
      if (!event.target.closest("button")) this.zoom(2.5, this.at(event));
    });
    root.addEventListener("keydown", (event) => this.#key(event));
  }

  // Show an image that the server has, or of which a bitmap is here; or none.
  open(image, bitmap) {
    this.#regions?.close();
    this.image = image?.width ? image : null;
    this.#regions = this.image && new Regions(image, bitmap, (kind, error) => {
      if (kind === "loaded") this.#draw();
      this.dispatchEvent(new CustomEvent(kind, { detail: error }));
    });
    if (this.image) this.fit(false);
    else this.#draw();
  }

  get empty() { return this.#regions?.empty; } // nothing of the image is here yet

  // Get what is in view, a moment later: of a movement, a few views are enough.
  refresh() {
    this.#rest ??= setTimeout(() => {
      this.#rest = null;
      this.#regions?.want(() => {
        const view = this.#goal ?? this.view;
        return { seen: this.#seen(view), sharp: view.scale * devicePixelRatio };
      });
    }, REST_MS);
  }

  // The part of the screen that nothing covers.
  get fitted() {
    const [top, right, bottom, left] = this.insets, { clientWidth: width, clientHeight: height } = this.root;
    const inside = [Math.max(60, width - left - right - 24), Math.max(60, height - top - bottom - 24)];
    return { inside, center: [left + (width - left - right) / 2, top + (height - top - bottom) / 2] };
  }

  fit(smooth = true) {
    if (this.image) this.fly([0, 0, this.image.width, this.image.height], { smooth });
  }

  // Show a rectangle of the image as large as it fits, at most and at least at some scale.
  fly([x0, y0, x1, y1], { smooth = true, most = Infinity, least = 0 } = {}) {
    if (!this.image) return;
    const { inside, center } = this.fitted;
    const fits = Math.min(most, inside[0] / (x1 - x0), inside[1] / (y1 - y0));
    const scale = this.#bounded(Math.max(least, fits));
    this.#go({ scale, x: (x0 + x1) / 2 - center[0] / scale, y: (y0 + y1) / 2 - center[1] / scale }, smooth);
  }

  zoom(factor, at = this.fitted.center, smooth = true) {
    if (!this.image) return;
    const scale = this.#bounded((this.#goal ?? this.view).scale * factor), [x, y] = this.toImage(at);
    this.#go({ scale, x: x - at[0] / scale, y: y - at[1] / scale }, smooth);
  }

  // Each pixel of the image on one pixel of the screen.
  own() { this.zoom(1 / (this.#goal ?? this.view).scale / devicePixelRatio); }

  pan(dx, dy) {
    if (!this.image) return;
    const { x, y, scale } = this.view;
    this.#go({ scale, x: x - dx / scale, y: y - dy / scale }, false);
  }

  toImage([x, y]) { return [this.view.x + x / this.view.scale, this.view.y + y / this.view.scale]; }

  toScreen([x, y]) { return [(x - this.view.x) * this.view.scale, (y - this.view.y) * this.view.scale]; }

  #bounded(scale) {
    const { inside } = this.fitted;
    const whole = Math.min(inside[0] / this.image.width, inside[1] / this.image.height);
    return Math.min(Math.max(MAX_SCALE, whole), Math.max(whole / 2, scale));
  }

  #seen(view) { // the part of the image on the screen
    const { clientWidth, clientHeight } = this.root, { width, height } = this.image;
    const all = [view.x, view.y, view.x + clientWidth / view.scale, view.y + clientHeight / view.scale];
    return meet(all, [0, 0, width, height]);
  }

  #go(to, smooth) {
    const flight = ++this.#flight;
    this.#goal = smooth && !calm.matches ? to : null;
    if (!this.#goal) return this.#show(to);
    const from = { ...this.view }, ratio = to.scale / from.scale, begin = performance.now();
    const step = (now) => {
      if (flight !== this.#flight) return;
      const time = Math.min(1, Math.max(0, now - begin) / FLIGHT_MS), eased = 1 - (1 - time) ** 3;
      if (time === 1) return this.#go(to, false);
      const scale = from.scale * ratio ** eased;
      // As much of the way as of the change of size: the point around which it zooms stays where it is.
      const zoomed = (1 / from.scale - 1 / scale) / (1 / from.scale - 1 / to.scale);
      const share = Math.abs(ratio - 1) < 1e-3 ? eased : zoomed;
      this.#show({ scale, x: from.x + (to.x - from.x) * share, y: from.y + (to.y - from.y) * share });
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  #show({ x, y, scale }) {
    const { width, height } = this.image, { inside: [across, down] } = this.fitted;
    const [cx, cy] = this.fitted.center.map((each) => each / scale);
    const keep = (at, middle, side, room) => { // some of the image is always in sight
      const slack = Math.min(side, room / scale) / 4;
      return Math.min(side - slack, Math.max(slack, at + middle)) - middle;
    };
    this.view = { scale, x: keep(x, cx, width, across), y: keep(y, cy, height, down) };
    this.#draw();
    this.refresh();
    this.dispatchEvent(new Event("view"));
  }

  #resized() {
    const { clientWidth, clientHeight } = this.root;
    this.canvas.width = Math.round(clientWidth * devicePixelRatio);
    this.canvas.height = Math.round(clientHeight * devicePixelRatio);
    this.#draw();
    this.refresh();
    this.dispatchEvent(new Event("resized"));
  }

  #draw() {
    const { context, canvas, view: { x, y } } = this;
    const size = this.view.scale * canvas.width / (this.root.clientWidth || 1);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = getComputedStyle(this.root).backgroundColor;
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (!this.image) return;
    context.setTransform(size, 0, 0, size, -x * size, -y * size);
    this.#regions.draw(context, this.#seen(this.view), size);
  }

  // What people do.

  // Where a pointer is in the viewer, which fills the window.
  at({ clientX, clientY }) { return [clientX, clientY]; }

  #wheel(event) {
    event.preventDefault();
    const points = event.deltaY * ({ 1: 30, 2: 400 }[event.deltaMode] ?? 1); // of lines, of pages
    const speed = event.ctrlKey ? 0.01 : 0.002; // a pinch on a touchpad; a wheel
    this.zoom(Math.exp(-Math.max(-300, Math.min(300, points)) * speed), this.at(event), false);
  }

  #down(event) {
    if (!this.image || event.button > 0 || event.defaultPrevented || event.target.closest("button")) return;
    this.root.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, this.at(event));
    this.moved = 0;
  }

  #move(event) {
    const before = this.#pointers.get(event.pointerId), now = this.at(event);
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

  #key(event) {
    if (event.target !== this.root || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = STEPS[event.key];
    if (step) this.pan(...step);
    else if (event.key === "+" || event.key === "=") this.zoom(1.5);
    else if (event.key === "-") this.zoom(1 / 1.5);
    else if (event.key === "0") this.fit();
    else if (event.key === "1") this.own();
    else return;
    event.preventDefault();
  }
}
