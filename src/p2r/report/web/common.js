"use strict";
// Shared by all pages. Every text comes from models and data sets: it is set as text, never as HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const PAGE = 40;  // items that are shown at a time
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

byId("heading").textContent = document.title;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

// Theme

const root = document.documentElement;
const remembered = (() => { try { return localStorage.getItem("p2r-theme"); } catch { return null; } })();
function setTheme(theme) {
  root.dataset.theme = theme;
  for (const button of document.querySelectorAll(".themes button")) {
    button.setAttribute("aria-pressed", String(button.dataset.set === theme));
  }
  try { localStorage.setItem("p2r-theme", theme); } catch { /* a page opened from a file may not remember */ }
}
for (const button of document.querySelectorAll(".themes button")) {
  button.addEventListener("click", () => setTheme(button.dataset.set));
}
setTheme(["light", "dark"].includes(remembered) ? remembered : "auto");

// Words

const plain = (outcome) => outcome.replaceAll("_", " ");
const searchable = (texts) => texts.filter(Boolean).join("\n").toLowerCase();

function inWords(question, value) {
  if (value === null || value === undefined) return "no answer";
  const place = question.choices.length ? LETTERS.indexOf(value) : -1;
  return place >= 0 && question.choices[place] ? `${value}. ${question.choices[place]}` : value;
}

// Images

// Around a box of 0–1000, never on what is in it.
function outline([x0, y0, x1, y1], kind, color) {
  const place = `left: ${x0 / 10}%; top: ${y0 / 10}%; width: ${(x1 - x0) / 10}%; height: ${(y1 - y0) / 10}%`;
  return element("div", { class: kind, style: `${place}; --box: ${color}`, "aria-hidden": "true" });
}

const color = (position) => data.colors[position % data.colors.length];

function outlined(uri, alt, boxes, goldBoxes, image = 0) {
  const isOfImage = (box) => (box[5] ?? 0) === image;
  return element("div", { class: "image" }, element("img", { src: uri, alt }),
    ...boxes.map((box, position) => isOfImage(box) ? outline(box, "box", color(position)) : null),
    ...goldBoxes.filter(isOfImage).map((box) => outline(box, "gold", "#fff")));
}

function zoomable(make) {
  const zoom = element("button", { type: "button", class: "zoom", "aria-label": "Enlarge the image" }, make());
  zoom.addEventListener("click", () => enlarge(make()));
  return zoom;
}

function enlarge(node) {
  byId("viewer-body").replaceChildren(node);
  byId("viewer").showModal();
}
byId("viewer").addEventListener("click", (event) => { if (event.target === byId("viewer")) byId("viewer").close(); });

function section(title, text) {
  return text ? [element("h4", {}, title), element("pre", {}, text)] : [];
}

// The list: what passes the filters, PAGE items at a time

function unfolding(uri, about, detail) {
  const image = uri
    ? element("img", { class: "thumb", src: uri, alt: "", loading: "lazy" })
    : element("span", { class: "thumb" });
  const row = element("button", { type: "button", class: "row", "aria-expanded": "false" }, image, element("span", {}, ...about));
  const made = element("li", { class: "item" }, row);
  row.addEventListener("click", () => {
    const open = row.getAttribute("aria-expanded") === "true";
    row.setAttribute("aria-expanded", String(!open));
    if (open) made.lastChild.remove();
    else made.append(detail());
  });
  return made;
}

// `chosen` gives the things that hold the words of the search and pass the filters, `item` an element for one.
function list(total, noun, chosen, item) {
  let shown = [];
  let limit = PAGE;

  function refresh() {
    shown = chosen(byId("search").value.toLowerCase().split(/\s+/).filter(Boolean));
    limit = PAGE;
    byId("list").replaceChildren();
    extend();
  }

  function extend() {
    const list = byId("list");
    list.append(...shown.slice(list.children.length, limit).map(item));
    byId("more").hidden = limit >= shown.length;
    byId("count").textContent = shown.length === total ? `${total} ${noun}` : `${shown.length} of ${total} ${noun}`;
  }

  byId("filters").addEventListener("input", refresh);
  byId("filters").addEventListener("reset", () => setTimeout(refresh));
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("more").addEventListener("click", () => {
    const before = byId("list").children.length;
    limit += PAGE;
    extend();
    byId("list").children[before]?.querySelector("button").focus();
  });
  refresh();
}
