// Sorts, filters and compares what the page already says; without it the table is whole and in its order.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const boards = [...document.querySelectorAll("table.board")];
const rows = boards.flatMap(board => [...board.tBodies[0].rows]);
const at = id => document.getElementById(id);

// ---- sorting: figures by value, the rest by text; rows without a value stay below

function valueOf(row, column) {
  const cell = row.cells[column];
  return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
}

function sortBy(header, column) {
  const first = header.dataset.first;  // better figures are the larger ones, better ranks and names the smaller ones
  const order = header.getAttribute("aria-sort") === first ? (first === "ascending" ? "descending" : "ascending") : first;
  const board = header.closest("table");
  const sign = order === "ascending" ? 1 : -1;
  for (const other of board.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
  const known = row => valueOf(row, column) !== "";
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  const sorted = rows.filter(row => board.contains(row)).sort((a, b) =>
    known(b) - known(a) || sign * compare(valueOf(a, column), valueOf(b, column)));
  board.tBodies[0].append(...sorted);
}

for (const board of boards) [...board.tHead.rows[0].cells].forEach((header, column) => {
  const button = document.createElement("button");
  button.textContent = header.textContent;
  header.dataset.first = header.classList.contains("figure") ? "descending" : "ascending";
  header.replaceChildren(button);
  button.addEventListener("click", () => sortBy(header, column));
});

// ---- finding

const filter = at("filter");
filter.addEventListener("input", () => {
  const wanted = filter.value.toLowerCase();
  for (const row of rows) row.hidden = !`${row.textContent} ${row.dataset.sha256}`.toLowerCase().includes(wanted);
  at("shown").textContent = wanted ? `${rows.filter(row => !row.hidden).length} of ${rows.length} rows` : "";
});
filter.parentElement.hidden = false;

// ---- comparing: the spread of the difference over common half-samples of the reference

function spread(a, b) {
  const gaps = a.map((value, place) => value - b[place]);
  const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
  return Math.sqrt(gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length);
}

function twoSided(z) {  // of a standard normal; rational approximation of erfc (Numerical Recipes), to 1e-7
  const t = 1 / (1 + z / Math.SQRT2 / 2);
  const c = [-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277];
  return t * Math.exp(-z * z / 2 + c.reduceRight((sum, next) => sum * t + next, 0));
}

function verdict(a, b) {
  if (a === b) return "Choose two.";
  if (a.runs !== b.runs) return `Not compared: ${a.runs} runs against ${b.runs}.`;
  if (!a.halves || !b.halves) return data.rounded ? "Scores are rounded: the noise of their difference is not published." : "Not compared: too few runs.";
  const error = data.inflation * spread(a.halves, b.halves) / data.unit;
  const gap = Math.abs(a.value - b.value);
  const p = gap === 0 ? 1 : twoSided(gap / error);
  const isDifferent = p < data.level;
  const [first, second] = isDifferent && b.value > a.value ? [b, a] : [a, b];
  const values = [first, second].map(side => side.value.toFixed(data.digits)).join(" against ");
  const evidence = `${values}, p ${p < 0.0001 ? "< 0.0001" : `= ${p.toPrecision(2)}`}`;
  const visible = `these runs show differences from ${(data.reach * error).toFixed(data.digits)}.`;
  return `${isDifferent ? `${first.name} is better` : "Not told apart"}: ${evidence}; ${visible}`;
}

function showPair() {
  const [a, b] = ["first", "second"].map(id => data.compared[at(id).value]);
  at("verdict").textContent = verdict(a, b);
  const figures = data.columns.map((name, place) => [name, a.cells[place], b.cells[place]]);
  const lines = [["", a.name, b.name], ...figures.filter(line => line[1] || line[2])];
  at("sides").replaceChildren(...lines.map((line, place) => {
    const row = document.createElement("tr");
    row.append(...line.map(text => Object.assign(document.createElement(place ? "td" : "th"), { textContent: text })));
    return row;
  }));
}

const keys = Object.keys(data.compared);
if (keys.length > 1) {
  const asked = new URLSearchParams(location.search).get("first");
  for (const id of ["first", "second"]) {
    at(id).append(...data.order.map(key => new Option(data.compared[key].name, key)));
    at(id).addEventListener("change", showPair);
  }
  if (asked in data.compared) at("first").value = asked;
  at("second").selectedIndex = at("first").selectedIndex === 0 ? 1 : 0;
  at("compare").hidden = false;
  showPair();
  if (location.hash) at("compare").scrollIntoView();
}
