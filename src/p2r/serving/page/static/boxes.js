// Boxes over the image: outlines that keep their width, labels beside them, and drawing, moving, deleting.
// A box is {box: [x0, y0, x1, y1] in 0–1000, label}.
import { el } from "./result.js";

const COLORS = 8, LEAST = 4, AROUND = 5; // LEAST: side of a box in 0–1000; AROUND: points of an outline

export class Boxes extends EventTarget {
  list = [];
  drawing = false;
  #selected = -1;
  #drag = null;
  constructor(viewer, root) {
    super();
    this.viewer = viewer;
    this.root = root;
    viewer.addEventListener("view", () => this.place());
    viewer.root.addEventListener("pointerdown", (event) => this.#down(event), { capture: true });
    viewer.root.addEventListener("pointermove", (event) => this.#move(event));
    for (const kind of ["pointerup", "pointercancel"]) viewer.root.addEventListener(kind, (event) => this.#up(event));
    root.addEventListener("keydown", (event) => this.#key(event));
    for (const [kind, on] of [["pointerover", true], ["pointerout", false], ["focusin", true], ["focusout", false]])
      root.addEventListener(kind, (event) => {
        const box = event.target.closest(".box");
        if (box) this.#tell("hot", { index: Number(box.dataset.index), on });
      });
  }
  set(list) { this.list = list.map((each) => ({ ...each, box: [...each.box] })); this.#selected = -1; this.#render(); }
  mark(index, on) { this.root.children[index]?.classList.toggle("hot", on); }

  // The rectangle of a box in pixels of the image.
  rect(index) {
    const { width, height } = this.viewer.image, [x0, y0, x1, y1] = this.list[index].box;
    return [x0 * width / 1000, y0 * height / 1000, x1 * width / 1000, y1 * height / 1000];
  }
  draw(on) { this.drawing = on; this.viewer.root.classList.toggle("drawing", on); this.#tell("mode"); }

  // For those who draw with the keyboard: a box in the middle of what is in view.
  addInMiddle() {
    const { inside, center } = this.viewer.fitted, [dx, dy] = inside.map((each) => each / 8);
    const corner = (sign) => this.#units(this.viewer.toImage([center[0] + sign * dx, center[1] + sign * dy]));
    this.#append([...corner(-1), ...corner(1)]);
    this.root.lastElementChild.querySelector(".tag").focus();
  }
  #append(box) { this.list.push({ box: this.#tidy(box), label: "" }); this.#selected = this.list.length - 1; this.#changed(); }
  #tell(kind, detail) { this.dispatchEvent(new CustomEvent(kind, { detail })); }
  #changed() { this.#render(); this.#tell("edited"); }
  #units([x, y]) { return [1000 * x / this.viewer.image.width, 1000 * y / this.viewer.image.height]; }
  #tidy([x0, y0, x1, y1]) {
    const span = (a, b) => {
      const [low, high] = [Math.max(0, Math.min(a, b)), Math.min(1000, Math.max(a, b))];
      const from = Math.min(low, 1000 - LEAST);
      return [from, Math.max(from + LEAST, high)].map((each) => Math.round(each * 10) / 10);
    };
    const [left, right] = span(x0, x1), [top, bottom] = span(y0, y1);
    return [left, top, right, bottom];
  }
  #render() {
    this.root.replaceChildren(...this.list.map(({ label }, index) => {
      const name = `${index + 1} ${label}`.trim(), on = index === this.#selected, type = "button";
      const box = el("div", { className: `box c${index % COLORS}${on ? " selected" : ""}` }, el("button", { type, className: "tag",
        textContent: name, ariaPressed: on, ariaLabel: `Box ${name}`, onclick: () => this.select(on ? -1 : index, true) }));
      box.dataset.index = index;
      if (on) box.append(...["nw", "ne", "sw", "se"].map((corner) => el("i", { className: `corner ${corner}` })), el("button", { type,
        className: "remove", textContent: "×", ariaLabel: `Delete box ${name}`, onclick: () => this.remove(index) }));
      return box;
    }));
    this.place();
  }
  select(index, focus = false) {
    this.#selected = index;
    this.#render();
    if (focus) this.root.querySelector(index < 0 ? ".tag" : `[data-index="${index}"] .tag`)?.focus();
  }
  remove(index) { this.list.splice(index, 1); this.#selected = -1; this.#changed(); this.viewer.root.focus(); }

  // Where outlines and labels are on the screen. A label never lies on its box, and on others only if it must.
  place() {
    if (!this.viewer.image) return;
    const { clientWidth, clientHeight } = this.viewer.root, [top, right, bottom, left] = this.viewer.insets;
    const room = [left, top, clientWidth - right, clientHeight - bottom];
    const rects = this.list.map((_, index) => {
      const [x0, y0, x1, y1] = this.rect(index);
      return [...this.viewer.toScreen([x0, y0]), ...this.viewer.toScreen([x1, y1])];
    });
    const taken = [...rects];
    rects.forEach(([x0, y0, x1, y1], index) => {
      const box = this.root.children[index], tag = box.firstElementChild, a = AROUND + 1;
      box.style.transform = `translate(${x0}px, ${y0}px)`;
      box.style.width = `${x1 - x0}px`;
      box.style.height = `${y1 - y0}px`;
      const width = tag.offsetWidth, height = tag.offsetHeight;
      const [cx, cy] = [Math.max(room[0], x0 - a), Math.max(room[1], y0 - a)]; // of a box that is partly in view
      const places = [[cx, y0 - a - height], [cx, y1 + a], [x1 + a, cy], [x0 - a - width, cy], [x1 + a - width, y0 - a - height],
        [x1 + a - width, y1 + a], [x1 + a, y1 - height], [x0 - a - width, y1 - height]];
      const spots = places.map(([x, y]) => [x, y, x + width, y + height]).filter((spot) =>
        spot[0] >= room[0] && spot[1] >= room[1] && spot[2] <= room[2] && spot[3] <= room[3]);
      const cost = (spot) => taken.reduce((sum, [u0, v0, u1, v1]) => sum
        + Math.max(0, Math.min(spot[2], u1) - Math.max(spot[0], u0)) * Math.max(0, Math.min(spot[3], v1) - Math.max(spot[1], v0)), 0);
      const best = spots.reduce((a, b) => (a && cost(a) <= cost(b) ? a : b), null);
      tag.classList.toggle("off", !best);
      if (!best) return;
      tag.style.transform = `translate(${best[0] - x0}px, ${best[1] - y0}px)`;
      taken.push(best);
    });
  }

  // Drawing and moving; what is no edit is left to the viewer.
  #point(event) {
    const { left, top } = this.viewer.root.getBoundingClientRect();
    return this.#units(this.viewer.toImage([event.clientX - left, event.clientY - top]));
  }
  #down(event) {
    const at = this.viewer.image && event.button === 0 && !event.target.closest("button") && this.#point(event);
    const box = event.target.closest(".box"), index = Number(box?.dataset.index);
    this.#drag = null;
    if (!at) return;
    if (this.drawing) this.#drag = { index: this.list.length, from: [...at, ...at], at, edges: [0, 0, 1, 1], fresh: true };
    else if (box?.classList.contains("selected")) {
      const corner = event.target.classList.contains("corner") ? event.target.className : "corner";
      const edges = { nw: [1, 1, 0, 0], ne: [0, 1, 1, 0], sw: [1, 0, 0, 1], se: [0, 0, 1, 1] };
      this.#drag = { index, from: [...this.list[index].box], at, edges: edges[corner.slice(7)] ?? [1, 1, 1, 1] };
    } else return;
    event.preventDefault(); // the view stays
    event.stopPropagation();
    this.viewer.root.setPointerCapture(event.pointerId);
  }
  #move(event) {
    if (!this.#drag) return;
    const { index, from, at, edges } = this.#drag, now = this.#point(event), [dx, dy] = [now[0] - at[0], now[1] - at[1]];
    this.#drag.moved = true;
    this.#shift(index, from, [dx, dy, dx, dy].map((each, side) => each * edges[side]));
  }
  #shift(index, from, by) {
    if (by.every((each, side) => each === by[side % 2])) { // moved as a whole: it keeps its size at an edge
      for (const [low, high] of [[0, 2], [1, 3]]) {
        const step = Math.max(-from[low], Math.min(1000 - from[high], by[low]));
        by[low] = by[high] = step;
      }
    }
    this.list[index] = { label: "", ...this.list[index], box: this.#tidy(from.map((each, side) => each + by[side])) };
    if (this.#selected === index && this.root.children[index]) return this.place();
    this.#selected = index;
    this.#render();
  }
  #up(event) {
    const drag = this.#drag, box = event.target.closest?.(".box");
    this.#drag = null;
    if (drag?.moved) {
      if (drag.fresh) this.draw(false);
      this.#changed();
    } else if (!drag && event.type === "pointerup" && this.viewer.moved < 4 && !event.target.closest("button")) {
      const { clientX: x, clientY: y } = event;
      const under = document.elementsFromPoint(x, y).map((each) => each.closest(".box")).filter(Boolean);
      const inner = under.sort((a, b) => a.offsetWidth * a.offsetHeight - b.offsetWidth * b.offsetHeight)[0] ?? box;
      if (inner || this.#selected >= 0) this.select(inner ? Number(inner.dataset.index) : -1);
    }
  }
  #key(event) {
    const index = this.#selected, step = event.shiftKey ? [0, 0, 1, 1] : [1, 1, 1, 1];
    const way = { ArrowLeft: [-5, 0], ArrowRight: [5, 0], ArrowUp: [0, -5], ArrowDown: [0, 5] }[event.key];
    if (event.key === "Escape") this.select(-1, true);
    else if (index >= 0 && (event.key === "Delete" || event.key === "Backspace")) this.remove(index);
    else if (index >= 0 && way) {
      this.#shift(index, this.list[index].box, [...way, ...way].map((each, side) => each * step[side]));
      this.#tell("edited");
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
