// The panel of a result: question, evidence, and one answer or two side by side.
// An entry is {image, question, choices, boxes, crops, outcome, given, columns}; each of its columns is one
// answer: {model, thinking}, and at its end {id, record} or {problem}.
import { COLORS, pixels } from "./boxes.js";
import { thumbnail } from "./images.js";
import { $, el, reveal } from "./page.js";

export const WAYS = {
  "p2r": "Look, then reason",
  "p2r-letter": "Look, then reason (letter only)",
  "p2r-think": "One pass over the plain image",
  "p2r-direct": "One pass, bare answer",
};
const OUTCOMES = {
  whole: "The model needs the whole image: it named no region.",
  malformed: "The model's reply held no region that could be read: it reasons about the whole image.",
};

export const letter = (index) => String.fromCharCode(65 + index);
export const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

// An answer as people read it.
export function spoken({ prediction: { answer, truncated, notes }, choices }) {
  const without = truncated ? "it was cut off at its token limit" : notes.at(-1) ?? "the reply names none";
  if (answer === null) return `None: ${without}`;
  const option = choices.find((_, index) => letter(index) === answer);
  return option ? `${answer}. ${option}` : answer;
}

function cost({ seconds: { total, ...stages }, usage, reasoner }) {
  const each = Object.entries(stages).map(([name, seconds]) => `${name} ${seconds.toFixed(2)}`);
  const { prompt_tokens: read, completion_tokens: written, calls } = usage;
  const tokens = `${read} + ${written} tokens in ${count(calls, "call")}`;
  return `${total.toFixed(2)} s (${each.join(", ")}) · ${tokens} · ${reasoner}`;
}

export class Result {
  #entry = null;
  #frame = null;
  #rects = []; // of the crops, in pixels of the image

  constructor(root, viewer, boxes) {
    Object.assign(this, { root, viewer, boxes });
    // A box and its crop mark each other.
    const places = [boxes.root, $("crops")], kinds = ["pointerover", "pointerout", "focusin", "focusout"];
    for (const place of places)
      for (const kind of kinds)
        place.addEventListener(kind, ({ target }) => {
          const index = [...place.children].findIndex((each) => each.contains(target));
          const on = kind === "pointerover" || kind === "focusin";
          for (const { children } of places) children[index]?.classList.toggle("hot", on);
        });
  }

  show(entry) {
    this.#entry = entry;
    reveal(this.root, entry);
    if (!entry) return;
    const { question, choices, image: { name, width, height } } = entry;
    $("asked").textContent = question;
    $("options").replaceChildren(...choices.map((textContent) => el("li", { textContent, dir: "auto" })));
    $("about").textContent = `${name}, ${width} × ${height} pixels`;
    $("columns").replaceChildren();
    this.root.scrollTop = 0;
    this.evidence();
    this.update();
  }

  // What was looked at, in the colors of the boxes.
  evidence() {
    const { boxes, crops, given, image } = this.#entry;
    this.#rects = given && !crops.length ? boxes.map((each) => pixels(each, image).map(Math.round)) : crops;
    $("crops").replaceChildren(...this.#rects.map((rect, index) =>
      this.#crop(image.id, rect, index, boxes[index]?.label ?? "")));
  }

  // What an answer brought: its option, notes, and where to take the result.
  update() {
    const { columns, outcome } = this.#entry, { record } = columns[0], first = record?.prediction;
    const ids = columns.flatMap(({ id, record }) => record ? [id] : []);
    const all = [OUTCOMES[outcome], ...(first?.notes ?? []), ...(first?.dropped ?? [])];
    const notes = all.filter((note) => note && !(record && spoken(record).endsWith(note)));
    [...$("options").children].forEach((each, index) =>
      each.classList.toggle("picked", first?.answer === letter(index)));
    $("outcome").textContent = notes.join(" ");
    reveal($("outcome"), notes.length);
    this.#looks(first?.looks ?? [], first?.stopped);
    reveal($("actions"), ids.length);
    reveal($("compare"), columns.length === 1);
    $("compare").disabled = $("again").disabled = columns.some(({ record, problem }) => !record && !problem);
    $("link").href = `#result=${ids.join()}`;
    for (const [name, kind] of [["figure", "png"], ["json", "json"]]) {
      $(name).href = `page/results/${ids[0]}.${kind}`;
      $(name).download = `p2r-${ids[0]?.slice(-6)}.${kind}`;
    }
    this.#columns();
  }

  // The regions that were looked at, if there were closer looks; each can be seen.
  #looks(looks, stopped) {
    const { image } = this.#entry, regions = looks.filter(({ parent }) => parent !== null);
    $("seen").replaceChildren(`${count(looks.length, "look")}: ${stopped}. `, ...regions.map(({ region }, index) => {
      const show = el("button", { type: "button", textContent: index + 1, title: "Show this region" });
      show.onclick = () => this.viewer.fly(pixels(region, image).map(Math.round));
      return show;
    }));
    reveal($("seen"), looks.length);
  }

  // The answers, as far as they are; once for each frame, because a layout of long texts takes time.
  write() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      if (this.#entry) this.#columns();
    });
  }

  #columns() {
    const { columns, given } = this.#entry;
    while ($("columns").children.length < columns.length) $("columns").append(article());
    $("columns").classList.toggle("two", columns.length > 1);
    columns.forEach(({ model, thinking, record, problem }, index) => {
      const [title, thought, said, small] = $("columns").children[index].children, done = record?.prediction;
      const follows = !done && thought.scrollTop + thought.clientHeight > thought.scrollHeight - 30;
      title.textContent = given && !index ? "Reasoned from your boxes" : WAYS[model] ?? model;
      thought.textContent = done?.thinking || thinking;
      if (follows) thought.scrollTop = thought.scrollHeight;
      said.textContent = record ? spoken(record) : problem ?? "…";
      said.classList.toggle("none", !done?.answer);
      small.textContent = done ? cost(done) : "";
    });
  }

  #crop(id, rect, index, label) {
    const button = el("button", { type: "button", className: `c${index % COLORS}` });
    button.title = "Show it at full size";
    button.onclick = () => this.viewer.fly(rect, { least: 1 / devicePixelRatio });
    button.append(thumbnail(id, rect, 440, 300),
      el("b", { textContent: `${index + 1} ${label}`.trim(), dir: "auto" }),
      el("small", { textContent: `${rect[2] - rect[0]} × ${rect[3] - rect[1]} pixels` }));
    return el("li", {}, button);
  }

  // A short flight to all of the evidence.
  fly() {
    if (!this.#rects.length) return;
    const sides = [Math.min, Math.min, Math.max, Math.max];
    this.viewer.fly(sides.map((pick, side) => pick(...this.#rects.map((rect) => rect[side]))), { most: 2 });
  }
}

function article() {
  const thought = { className: "thinking", dir: "auto", tabIndex: 0, role: "region", ariaLabel: "Reasoning" };
  return el("article", {}, el("h3"), el("p", thought), el("p", { className: "answer", dir: "auto" }),
    el("p", { className: "small" }));
}
