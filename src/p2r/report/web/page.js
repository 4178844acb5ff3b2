// Shows the questions of an evaluation.

// Filters

const isRight = (answer) => answer && answer.outcome === "correct";
const texts = new Map(data.questions.map((question) => [question, searchable([
  question.id, question.question, question.category, question.gold, ...question.choices,
  ...question.answers.flatMap((answer) => answer ? [answer.answer, answer.error] : []),
])]));

const categories = [...new Set(data.questions.map((question) => question.category))].sort();
byId("category").append(...categories.map((name) => element("option", { value: name || " " }, name || "other")));
byId("category").closest("label").hidden = categories.length < 2;

const outcomeSelects = data.columns.map((label, position) => {
  const present = new Set(data.questions.map((q) => q.answers[position]?.outcome).filter(Boolean));
  const select = element("select", { "aria-label": `Outcome of ${label}` },
    element("option", { value: "" }, "any outcome"),
    present.size > 1 && "correct" in data.meaning ? element("option", { value: "!" }, "not right") : null,
    ...Object.keys(data.meaning).filter((name) => present.has(name))
      .map((name) => element("option", { value: name }, plain(name))));
  byId("outcome-filters").append(element("label", {}, label, select));
  return select;
});

const orders = [["id", "by id", null]];
for (const pair of data.pairs) {
  for (const [i, j] of [pair, [...pair].reverse()]) {
    const gained = (q) => isRight(q.answers[i]) && !isRight(q.answers[j]) ? 0 : 1;
    orders.push([`${i}-${j}`, `right in ${data.columns[i]}, not in ${data.columns[j]} first`, gained]);
  }
}
orders.push(["small", "smallest evidence first", (q) => q.goldBoxes?.length
  ? Math.min(...q.goldBoxes.map(([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0))) : Infinity]);
if (!data.questions.some((question) => question.goldBoxes?.length)) orders.pop();
byId("order").append(...orders.map(([value, label]) => element("option", { value }, label)));

function chosen(words) {
  const category = byId("category").value;
  const found = data.questions.filter((question) => {
    if (category && (question.category || " ") !== category) return false;
    const matches = outcomeSelects.every((select, position) => {
      const outcome = question.answers[position]?.outcome;
      if (!select.value) return true;
      return select.value === "!" ? outcome !== "correct" : outcome === select.value;
    });
    return matches && words.every((word) => texts.get(question).includes(word));
  });
  const key = orders.find(([value]) => value === byId("order").value)[2];
  return key ? found.map((q) => [key(q), q]).sort((a, b) => a[0] - b[0] || 0).map(([, q]) => q) : found;
}

// One question

function badge(question, answer, position) {
  if (!answer) return element("span", { class: "badge" }, element("b", { class: `series-${position}` }, data.columns[position]), "not asked");
  const said = answer.outcome === "failed" ? "failed" : inWords(question, answer.answer);
  return element("span", { class: `badge outcome-${answer.outcome}`, title: data.meaning[answer.outcome] },
    element("b", { class: `series-${position}` }, data.columns[position]),
    element("span", {}, said),
    element("span", { class: "kind" }, `(${plain(answer.outcome)})`));
}

function item(question) {
  const gold = question.gold ? ` · gold: ${inWords(question, question.gold)}` : "";
  return unfolding(question.images[0]?.[1] ?? "", [
    element("p", { class: "asked" }, question.question),
    element("p", { class: "meta" }, [question.id, question.category].filter(Boolean).join(" · ") + gold),
    element("span", { class: "badges" }, ...question.answers.map((answer, i) => badge(question, answer, i))),
  ], () => detail(question));
}

function facts(question, answer) {
  const list = element("dl", { class: "facts" });
  const add = (name, value) => { if (value !== "" && value !== null && value !== undefined) list.append(element("dt", {}, name), element("dd", {}, value)); };
  add("outcome", `${plain(answer.outcome)}: ${data.meaning[answer.outcome]}`);
  add("answer", answer.outcome === "failed" ? "" : inWords(question, answer.answer));
  add("why", answer.why);
  add("cost", answer.tokens === undefined ? "" : `${answer.tokens} tokens, ${answer.seconds} s`);
  add("looks", answer.looks?.length ? `${answer.looks.length}: ${answer.stopped}` : "");
  add("notes", (answer.notes ?? []).join("; "));
  add("dropped", (answer.dropped ?? []).join("; "));
  return list;
}

function side(question, answer) {
  const several = question.count > 1;
  const images = question.images.filter(([, uri]) => uri).flatMap(([index, uri]) => [
    several ? element("p", { class: "caption" }, `Image ${index + 1} of ${question.count}`) : null,
    zoomable(() => outlined(uri, `The image of question ${question.id}`, answer?.boxes ?? [], question.goldBoxes ?? [], index))]);
  if (!images.length) images.push(element("div", { class: "image" }, element("p", { class: "no-image" }, "This page has no thumbnail of the image.")));
  const crops = (answer?.crops ?? []).map((uri, position) => {
    if (!uri) return null;
    const box = answer.boxes[position];
    const label = [box?.[4], several && box ? `image ${box[5] + 1}` : ""].filter(Boolean).join(" · ");
    const crop = element("button", { type: "button", class: "crop", style: `--box: ${color(position)}` },
      element("img", { src: uri, alt: `Crop ${position + 1}${label ? `: ${label}` : ""}` }), label || `crop ${position + 1}`);
    crop.addEventListener("click", () => enlarge(element("img", { src: uri, alt: "" })));
    return crop;
  });
  const size = question.size ? `${question.size[0]} × ${question.size[1]} px. ` : "";
  const legend = question.goldBoxes?.length ? "Dashed: the gold boxes." : question.goldBoxes ? "The whole image is the evidence." : "";
  return element("div", {}, ...images, element("p", { class: "caption" }, size + legend), crops.length ? element("div", { class: "crops" }, ...crops) : null);
}

function closer(looks) {
  const place = (region) => region.map((side) => Math.round(side)).join(", ");
  return (looks ?? []).flatMap(({ region, parent, text }, index) =>
    parent === null ? [] : `${index}. (${place(region)}), after ${parent}: ${text}`).join("\n");
}

function detail(question) {
  const left = element("div", {});
  const panel = element("div", { role: "tabpanel" });
  const tabs = element("div", { class: "tabs", role: "tablist", "aria-label": "Answers" });
  const asked = data.columns.map((_, position) => position).filter((position) => question.answers[position]);
  const show = (position) => {
    const answer = question.answers[position];
    for (const tab of tabs.children) {
      const selected = Number(tab.dataset.position) === position;
      tab.setAttribute("aria-selected", String(selected));
      tab.tabIndex = selected ? 0 : -1;
    }
    left.replaceChildren(side(question, answer));
    panel.replaceChildren(facts(question, answer), ...section("Error", answer.error),
      ...section("The perceiver wrote", answer.perception), ...section("Closer looks", closer(answer.looks)),
      ...section("The answering stage wrote", answer.text));
  };
  for (const position of asked) {
    const tab = element("button", { type: "button", role: "tab", class: `series-${position}`, "data-position": position }, data.columns[position]);
    tab.addEventListener("click", () => show(position));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = asked[(asked.indexOf(position) + step + asked.length) % asked.length];
      show(next);
      tabs.querySelector(`[data-position="${next}"]`).focus();
    });
    tabs.append(tab);
  }
  const choices = question.choices.length ? element("ul", { class: "choices" }, ...question.choices.map((text, place) => {
    const letter = LETTERS[place];
    const gold = letter === question.gold;
    return element("li", gold ? { class: "gold-choice" } : {}, `${letter}. ${text}${gold ? "  (gold)" : ""}`);
  })) : null;
  const right = element("div", {}, choices, element("div", { style: "height: 12px" }), tabs, panel);
  show(asked[0]);
  return element("div", { class: "detail" }, left, right);
}

list(data.questions.length, "questions", chosen, item);
