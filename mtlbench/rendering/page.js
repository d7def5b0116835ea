
"use strict";

// --- light and dark

const root = document.documentElement;
const theme = document.querySelector(".theme");
const systemDark = matchMedia("(prefers-color-scheme: dark)");

function remembered(value) {
  try {
    if (value) localStorage.setItem("mtlbench-theme", value);
    return localStorage.getItem("mtlbench-theme");
  } catch {
    return null; // storage is switched off
  }
}

function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches;
}

function nameTheme() {
  theme.textContent = isDark() ? "Light" : "Dark";
  theme.title = `Switch to the ${isDark() ? "light" : "dark"} colours`;
}

if (["light", "dark"].includes(remembered())) root.dataset.theme = remembered();
theme.hidden = false;
theme.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  remembered(root.dataset.theme);
  nameTheme();
});
systemDark.addEventListener("change", nameTheme);
nameTheme();

// --- tables: sort, filter, hide columns

function sortBy(table, header) {
  const column = header.cellIndex;
  const first = header.dataset.first;
  const other = first === "descending" ? "ascending" : "descending";
  const order = header.getAttribute("aria-sort") === first ? other : first;
  for (const cell of header.parentElement.cells) cell.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const value = (row) => row.cells[column].dataset.value;
  const compare = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    return sign * (header.dataset.kind === "text" ? x.localeCompare(y) : Number(x) - Number(y));
  };
  // Only measured methods change places: the reference stays above them and rows that nothing ranks below.
  for (const body of table.querySelectorAll("tbody.method")) body.append(...[...body.rows].sort(compare));
}

function filterBy(table, input, found) {
  const wanted = input.value.trim().toLowerCase();
  const rows = [...table.querySelectorAll("tbody.method tr, tbody.apart tr[data-label]")];
  for (const row of rows) row.hidden = !row.dataset.label.toLowerCase().includes(wanted);
  const shown = rows.filter((row) => !row.hidden).length;
  found.textContent = wanted ? `${shown} of ${rows.length} rows` : "";
  for (const title of table.querySelectorAll("tbody.apart .title")) {
    title.parentElement.hidden = [...title.closest("tbody").rows].slice(1).every((row) => row.hidden);
  }
}

function columnChoice(table, list) {
  for (const header of [...table.tHead.rows[0].cells].slice(1)) {
    const column = header.cellIndex;
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    box.addEventListener("change", () => {
      for (const row of table.rows) if (row.cells[column]) row.cells[column].hidden = !box.checked;
    });
    const label = document.createElement("label");
    label.append(box, ` ${header.textContent.trim()}`);
    list.append(label);
  }
}

// --- a sign where columns are out of sight

function signOf(scroll, sign) {
  const tell = () => {
    const left = scroll.getBoundingClientRect().left;
    const right = left + scroll.clientWidth + 1;
    const cells = [...scroll.querySelector("table").tHead.rows[0].cells];
    const cut = cells.filter((cell) => !cell.hidden && cell.getBoundingClientRect().right > right).length;
    sign.hidden = cut === 0;
    sign.textContent = `${cut} more column${cut === 1 ? "" : "s"} →`;
    scroll.classList.toggle("cut", cut > 0);
  };
  scroll.addEventListener("scroll", tell, { passive: true });
  new ResizeObserver(tell).observe(scroll);
  new ResizeObserver(tell).observe(scroll.querySelector("table"));
  sign.addEventListener("click", () => scroll.scrollBy({ left: scroll.clientWidth / 2, behavior: "smooth" }));
  tell();
}

for (const article of document.querySelectorAll("article")) {
  signOf(article.querySelector(".scroll"), article.querySelector(".more"));
  const table = article.querySelector("table");
  const input = article.querySelector("input[type=search]");
  const found = article.querySelector(".found");
  const choice = article.querySelector(".choice");
  for (const header of table.tHead.rows[0].cells) {
    header.querySelector("button").addEventListener("click", () => sortBy(table, header));
  }
  input.addEventListener("input", () => filterBy(table, input, found));
  columnChoice(table, choice.querySelector("div"));
  document.addEventListener("click", (event) => {
    if (!choice.contains(event.target)) choice.open = false;
  });
  for (const hidden of article.querySelectorAll(".scripted")) hidden.hidden = false;
}
