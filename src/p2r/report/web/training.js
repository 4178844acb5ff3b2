// Shows the groups of rollouts of a training, and the values of the curves beside the pointer.

// Curves

document.querySelectorAll(".curve").forEach((figure, position) => {
  const plot = figure.querySelector(".plot");
  const readout = figure.querySelector(".readout");
  const cursor = figure.querySelector(".cursor");
  const total = data.bands.at(-1)[1];
  const show = (event) => {
    const place = plot.getBoundingClientRect();
    const step = Math.min(total, Math.max(1, Math.round(total * (event.clientX - place.left) / place.width)));
    const phase = Math.max(0, data.bands.findIndex(([start, end]) => step > start && step <= end));
    const values = data.curves[position].filter((curve) => curve.values[step] !== undefined)
      .map((curve) => `${curve.label} ${curve.values[step]}`);
    readout.textContent = `step ${step - data.bands[phase][0]} of ${data.phases[phase]}: ${values.join(" · ") || "no value"}`;
    const x = `${100 * step / total}%`;
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    cursor.setAttribute("visibility", "visible");
  };
  plot.addEventListener("pointermove", show);
  plot.addEventListener("pointerdown", show);
  plot.addEventListener("pointerleave", () => {
    cursor.setAttribute("visibility", "hidden");
    readout.textContent = " ";
  });
});

// Filters

const rewardsOf = (group) => group.rollouts.map((rollout) => rollout.reward);
const known = (group) => rewardsOf(group).filter((reward) => reward !== null);
const tests = {
  "": () => true,
  spread: (group) => new Set(known(group)).size > 1,
  right: (group) => rewardsOf(group).every((reward) => reward === 1),
  wrong: (group) => rewardsOf(group).every((reward) => reward === 0),
  failed: (group) => rewardsOf(group).includes(null),
};
const texts = new Map(data.groups.map((group) => [group, searchable([
  group.id, group.question, group.category, group.gold, ...group.choices,
  ...group.rollouts.flatMap((rollout) => [rollout.answer, rollout.gate, rollout.outcome, rollout.error, rollout.text]),
])]));

byId("phase").append(...data.phases.map((name, position) => element("option", { value: position }, name)));

function chosen(words) {
  const phase = byId("phase").value;
  return data.groups.filter((group) => (phase === "" || group.phase === Number(phase))
    && tests[byId("spread").value](group) && words.every((word) => texts.get(group).includes(word)));
}

// One group

function chip(rollout) {
  const kind = rollout.reward === null ? "none" : rollout.reward > 0 ? "one" : "zero";
  const said = rollout.reward === null ? "–" : String(+rollout.reward.toFixed(2));
  const name = rollout.reward === null ? "no reward" : `reward ${said}`;
  return element("span", { class: `reward ${kind}`, title: rollout.gate ? `${name}, gate: ${rollout.gate}` : name, "aria-label": name }, said);
}

function item(group) {
  const meta = element("p", { class: "meta" },
    element("span", { class: `phase-name series-${data.series[group.phase]}` }, data.phases[group.phase].replace("joint", `joint, ${group.role}`)),
    [` · step ${group.step}`, group.id, group.category].filter(Boolean).join(" · "),
    group.gold === null || group.gold === undefined ? "" : ` · gold: ${inWords(group, group.gold)}`);
  return unfolding(data.images[group.id], [
    element("p", { class: "asked" }, group.question || group.id), meta,
    element("span", { class: "rewards" }, ...group.rollouts.map(chip)),
  ], () => detail(group));
}

function imageWith(group, boxes) {
  const uri = data.images[group.id];
  const alt = `The image of ${group.id} with ${boxes.length} boxes`;
  return uri ? zoomable(() => outlined(uri, alt, boxes, group.goldBoxes)) : null;
}

function labels(boxes) {
  return boxes.length ? element("ul", { class: "labels" }, ...boxes.map((box, position) => element("li",
    { style: `--box: ${color(position)}` }, element("span", { class: "swatch" }), box[4] || "without a label"))) : null;
}

function rolloutCard(group, rollout, together) {
  const facts = [];
  if (rollout.advantage !== null && rollout.advantage !== undefined) facts.push(`advantage ${rollout.advantage.toFixed(2)}`);
  if (rollout.outcome) facts.push(rollout.outcome === "whole" ? "whole image" : rollout.outcome);
  if (rollout.gate) facts.push(`gate: ${rollout.gate}`);
  if (rollout.recall !== null && rollout.recall !== undefined) facts.push(`recall ${Math.round(100 * rollout.recall)} %`);
  const said = rollout.gate || rollout.error ? null : element("p", { class: "said" }, "Answer: ",
    element("b", {}, inWords(group, rollout.answer)));
  const texts = [...section("The acting role wrote", rollout.text), ...section("The frozen reasoner wrote", rollout.reasoner)];
  return element("article", { class: "rollout" },
    element("div", { class: "head" }, chip(rollout), facts.join(" · ")),
    together ? null : imageWith(group, rollout.boxes), together ? null : labels(rollout.boxes), said,
    rollout.error ? element("p", { class: "trouble" }, `No reward: ${rollout.error}`) : null,
    texts.length ? element("details", {}, element("summary", {}, "Texts"), ...texts) : null);
}

function detail(group) {
  const first = JSON.stringify(group.rollouts[0].boxes);
  // A reasoner's rollouts are all about the same evidence: it is shown once.
  const together = group.rollouts[0].outcome === null && group.rollouts.every((rollout) => JSON.stringify(rollout.boxes) === first);
  const choices = group.choices.length ? element("p", { class: "asked-again" },
    group.choices.map((text, place) => `${LETTERS[place]}. ${text}`).join("   ")) : null;
  const evidence = together ? element("div", { class: "shared" }, imageWith(group, group.rollouts[0].boxes),
    element("div", { class: "rollout-labels" }, labels(group.rollouts[0].boxes))) : null;
  const legend = group.goldBoxes.length && data.images[group.id] ? element("p", { class: "caption" }, "Dashed: the gold boxes, which no reward uses.") : null;
  return element("div", { class: "group" }, choices, evidence,
    element("div", { class: "rollouts" }, ...group.rollouts.map((rollout) => rolloutCard(group, rollout, together))), legend);
}

list(data.groups.length, "groups", chosen, item);
