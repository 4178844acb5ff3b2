"use strict";
// What all pages share. Every text comes from models and data sets: it is set as text, never as HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const PAGE = 40;  // items that are shown at a time

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

function inWords(question, value) {
  if (value === null || value === undefined) return "no answer";
  const place = question.choices.length ? "ABCDEFGHIJKLMNOPQRSTUVWXYZ".indexOf(value) : -1;
  return place >= 0 && question.choices[place] ? `${value}. ${question.choices[place]}` : value;
}

// Pictures

const SVG = "http://www.w3.org/2000/svg";
function outline(box, attributes) {
  const rect = document.createElementNS(SVG, "rect");
  const [x0, y0, x1, y1] = box;
  for (const [name, value] of Object.entries({ x: x0, y: y0, width: x1 - x0, height: y1 - y0, ...attributes })) {
    rect.setAttribute(name, value);
  }
  return rect;
}

const colour = (position) => data.colours[position % data.colours.length];

function enlarge(node) {
  byId("viewer-body").replaceChildren(node);
  byId("viewer").showModal();
}
byId("viewer").addEventListener("click", (event) => { if (event.target === byId("viewer")) byId("viewer").close(); });

function section(title, text) {
  return text ? [element("h4", {}, title), element("pre", {}, text)] : [];
}
