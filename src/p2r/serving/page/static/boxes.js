// Boxes over the image: outlines that keep their width, labels beside them, and drawing, moving, deleting.
// A box is {box: [x0, y0, x1, y1] in 0–1000, label}.
import { el } from "./page.js";

export const COLORS = 8;
const LEAST = 4; // side of a box, in 0–1000
const OUTLINE = 6; // points around a box
const STEPS = { ArrowLeft: [-5, 0], ArrowRight: [5, 0], ArrowUp: [0, -5], ArrowDown: [0, 5] }; // in 0–1000
// Which of the four edges of a box a drag moves.
const EDGES = { nw: [1, 1, 0, 0], ne: [0, 1, 1, 0], sw: [1, 0, 0, 1], se: [0, 0, 1, 1], all: [1, 1, 1, 1] };

// The rectangle of a box in pixels of its image.
export function pixels({ box: [x0, y0, x1, y1] }, { width, height }) {
  return [x0 * width / 1000, y0 * height / 1000, x1 * width / 1000, y1 * height / 1000];
}

export class Boxes extends EventTarget {
  list = [];
  drawing = false;
  #selected = -1;
  #drag = null; // {index, from, at, edges}: the box as it was, and where the pointer began

  constructor(viewer, root) {
    super();
    this.viewer = viewer;
    this.root = root;
    viewer.addEventListener("view", () => this.place());
    viewer.root.addEventListener("pointerdown", (event) => this.#down(event), { capture: true });
    viewer.root.addEventListener("pointermove", (event) => this.#move(event));
    for (const kind of ["pointerup", "pointercancel"])
      viewer.root.addEventListener(kind, (event) => this.#up(event));
    root.addEventListener("keydown", (event) => this.#key(event));
  }

  set(list) {
    this.list = list.map((each) => ({ ...each, box: [...each.box] }));
    this.#selected = -1;
    this.#render();
  }

  draw(on) {
    this.drawing = on;
    this.viewer.root.classList.toggle("drawing", on);
    this.#tell("mode");
  }

  // For those who draw with the keyboard: a box in the middle of what is in view.
  addInMiddle() {
    const { inside, center } = this.viewer.fitted, [dx, dy] = inside.map((each) => each / 8);
    const corner = (sign) => this.#units([center[0] + sign * dx, center[1] + sign * dy]);
    this.list.push({ box: tidy([...corner(-1), ...corner(1)]), label: "" });
    this.select(this.list.length - 1, true);
    this.#tell("edited");
  }

  select(index, focus) {
    this.#selected = index;
    this.#render();
    if (focus) this.root.querySelector(index < 0 ? ".tag" : `[data-index="${index}"] .tag`)?.focus();
  }

  remove(index) {
    this.list.splice(index, 1);
    this.select(-1);
    this.viewer.root.focus();
    this.#tell("edited");
  }

  #tell(kind) { this.dispatchEvent(new Event(kind)); }

  #units(point) { // of a point of the screen
    const [x, y] = this.viewer.toImage(point), { width, height } = this.viewer.image;
    return [1000 * x / width, 1000 * y / height];
  }

  // What is seen.

  #render() {
    this.root.replaceChildren(...this.list.map(({ label }, index) => {
      const name = `${index + 1} ${label}`.trim(), on = index === this.#selected;
      const tag = el("button", { type: "button", className: "tag", textContent: name, dir: "auto" });
      Object.assign(tag, { title: name, ariaLabel: `Box ${name}`, ariaPressed: on });
      tag.onclick = () => this.select(on ? -1 : index, true);
      const box = el("div", { className: `box c${index % COLORS}` }, tag);
      box.dataset.index = index;
      if (on) {
        const remove = el("button", { type: "button", className: "remove", textContent: "×" });
        remove.ariaLabel = `Delete box ${name}`;
        remove.onclick = () => this.remove(index);
        box.classList.add("selected");
        for (const corner of ["nw", "ne", "sw", "se"]) box.append(el("i", { className: `corner ${corner}` }));
        box.append(remove);
      }
      return box;
    }));
    this.place();
  }

  // Put outlines and labels where they are on the screen.
  place() {
    if (!this.viewer.image) return;
    const { clientWidth, clientHeight } = this.viewer.root, [top, right, bottom, left] = this.viewer.insets;
    const room = [left, top, clientWidth - right, clientHeight - bottom];
    const tags = [...this.root.children].map((box) => box.firstElementChild);
    const sizes = tags.map((tag) => [tag.offsetWidth, tag.offsetHeight]); // before anything moves
    const rects = this.list.map((each) => {
      const [x0, y0, x1, y1] = pixels(each, this.viewer.image);
      return [...this.viewer.toScreen([x0, y0]), ...this.viewer.toScreen([x1, y1])];
    });
    const taken = [...rects];
    rects.forEach(([x0, y0, x1, y1], index) => {
      const { style } = this.root.children[index], spot = freeSpot(rects[index], sizes[index], room, taken);
      style.transform = `translate(${x0}px, ${y0}px)`;
      style.width = `${x1 - x0}px`;
      style.height = `${y1 - y0}px`;
      style.zIndex = Math.round(1e4 - (x1 - x0) - (y1 - y0)); // small ones over large ones
      tags[index].classList.toggle("off", !spot);
      if (!spot) return;
      tags[index].style.transform = `translate(${spot[0] - x0}px, ${spot[1] - y0}px)`;
      taken.push(spot);
    });
  }

  // Drawing and moving; what is no edit is left to the viewer.

  #down(event) {
    this.#drag = null;
    if (!this.viewer.image || event.button || event.target.closest("button")) return;
    const at = this.#units(this.viewer.at(event)), box = event.target.closest(".box.selected");
    if (this.drawing) {
      this.#drag = { index: this.list.length, from: [...at, ...at], at, edges: EDGES.se };
    } else if (box) {
      const index = Number(box.dataset.index), corner = event.target.classList[1];
      this.#drag = { index, from: [...this.list[index].box], at, edges: EDGES[corner] ?? EDGES.all };
    } else {
      return;
    }
    event.preventDefault(); // the view stays
    event.stopPropagation();
    this.viewer.root.setPointerCapture(event.pointerId);
  }

  #move(event) {
    if (!this.#drag) return;
    const { index, from, at, edges } = this.#drag, now = this.#units(this.viewer.at(event));
    this.#drag.moved = true;
    this.#shift(index, from, edges, [now[0] - at[0], now[1] - at[1]]);
  }

  #shift(index, from, edges, [dx, dy]) {
    if (edges === EDGES.all) { // it keeps its size at an edge of the image
      dx = Math.max(-from[0], Math.min(1000 - from[2], dx));
      dy = Math.max(-from[1], Math.min(1000 - from[3], dy));
    }
    const box = tidy(from.map((each, side) => each + edges[side] * (side % 2 ? dy : dx)));
    this.list[index] = { label: "", ...this.list[index], box };
    if (this.#selected === index && this.root.children[index]) return this.place();
    this.#selected = index;
    this.#render();
  }

  #up(event) {
    const drag = this.#drag, dragged = this.viewer.moved >= 4 || event.target.closest?.("button");
    this.#drag = null;
    if (drag?.moved) {
      this.draw(false);
      this.#tell("edited");
    } else if (!drag && event.type === "pointerup" && !dragged) {
      const box = document.elementFromPoint(event.clientX, event.clientY)?.closest(".box");
      if (box || this.#selected >= 0) this.select(box ? Number(box.dataset.index) : -1);
    }
  }

  #key(event) {
    const index = this.#selected, edges = event.shiftKey ? EDGES.se : EDGES.all;
    const by = STEPS[event.key];
    if (event.key === "Escape") {
      this.select(-1, true);
    } else if (index >= 0 && (event.key === "Delete" || event.key === "Backspace")) {
      this.remove(index);
    } else if (index >= 0 && by) {
      this.#shift(index, this.list[index].box, edges, by);
      this.#tell("edited");
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }
}

// Corners in order, inside of the image, and not too small.
function tidy([x0, y0, x1, y1]) {
  const span = (a, b) => {
    const low = Math.min(Math.max(0, Math.min(a, b)), 1000 - LEAST);
    const high = Math.max(low + LEAST, Math.min(1000, Math.max(a, b)));
    return [low, high].map((each) => Math.round(each * 10) / 10);
  };
  const [left, right] = span(x0, x1), [top, bottom] = span(y0, y1);
  return [left, top, right, bottom];
}

// Where a label goes: never on its own box, on other boxes and labels as little as it can; null without room.
function freeSpot([x0, y0, x1, y1], [width, height], room, taken) {
  const above = y0 - OUTLINE - height, below = y1 + OUTLINE;
  const before = x0 - OUTLINE - width, after = x1 + OUTLINE;
  // A box may begin outside of what is in view.
  const left = Math.max(room[0], x0 - OUTLINE), top = Math.max(room[1], y0 - OUTLINE);
  const right = after - width, bottom = y1 - height;
  const corners = [[left, above], [left, below], [after, top], [before, top],
    [right, above], [right, below], [after, bottom], [before, bottom]];
  const overlap = (a, b) => Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]))
    * Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  let best = null, least = Infinity;
  for (const [x, y] of corners) {
    const spot = [x, y, x + width, y + height];
    if (x < room[0] || y < room[1] || spot[2] > room[2] || spot[3] > room[3]) continue;
    const cost = taken.reduce((sum, each) => sum + overlap(spot, each), 0);
    if (cost < least) [best, least] = [spot, cost];
  }
  return best;
}
