"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const COLOURS = ["#0b6bcb", "#d9730d", "#2f9e5b", "#a13dc4", "#c62f2f", "#5f6b7a", "#0ea5a5", "#b08900", "#e0569b", "#4b5bd7"];
const colour = (method) => COLOURS[data.methods.indexOf(method) % COLOURS.length];
const make = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value; else if (key === "text") made.textContent = value; else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
};
const digits = (x) => x === null || x === undefined ? "–" : (Math.abs(x) < .0005 ? 0 : x).toFixed(Math.abs(x) >= 100 ? 1 : Math.abs(x) >= 10 ? 2 : 3);
const find = (metric, method, task) => data.scores.find((s) => s.metric === metric && s.method === method && s.task === task && !s.column);
const tasks = [...new Set(["mean", ...data.scores.map((s) => s.task)])];
const metrics = [...new Set(data.scores.filter((s) => !s.column).map((s) => s.metric))];
const shown = () => $("which").value === "paper" && data.headline.some((m) => metrics.includes(m)) ? data.headline.filter((m) => metrics.includes(m)) : metrics;
const better = (metric) => data.scores.find((s) => s.metric === metric).higher_is_better;
const options = (select, values, names = values) => values.forEach((v, k) => select.append(make("option", { value: v, text: names[k] })));
const taskNames = tasks.map((t) => t === "mean" ? "mean over tasks" : t);

let sorting = { metric: null, down: true };
function drawScores() {
  const task = $("task").value, columns = shown();
  let rows = [...data.methods];
  if (sorting.metric) rows.sort((a, b) => {
    const [x, y] = [a, b].map((m) => (find(sorting.metric, m, task) || {}).value ?? -Infinity);
    return sorting.down ? y - x : x - y;
  });
  const head = make("tr", {}, make("th", { text: "method", scope: "col" }));
  for (const metric of columns) {
    const press = make("button", { type: "button", text: `${data.titles[metric] || metric} ${better(metric) ? "↑" : "↓"}` });
    press.onclick = () => { sorting = { metric, down: sorting.metric === metric ? !sorting.down : better(metric) }; drawScores(); };
    const sort = sorting.metric === metric ? (sorting.down ? "descending" : "ascending") : "none";
    head.append(make("th", { scope: "col", "aria-sort": sort, title: data.summaries[metric] || "" }, press));
  }
  const body = make("tbody");
  for (const method of rows) {
    const row = make("tr", {}, make("td", { text: method }));
    for (const metric of columns) {
      const score = find(metric, method, task);
      const values = data.methods.map((m) => (find(metric, m, task) || {}).value).filter((v) => v !== null && v !== undefined);
      const best = better(metric) ? Math.max(...values) : Math.min(...values);
      const cell = make("td", { class: score && score.value === best ? "best" : "" });
      if (score) cell.append(make("b", { text: digits(score.value) }), " ", make("small", { text: `${digits(score.low)} to ${digits(score.high)}` }));
      row.append(cell);
    }
    body.append(row);
  }
  $("scores").replaceChildren(make("thead", {}, head), body);
}

function roundValues(low, high, most) {  // between the two, multiples of 1, 2 or 5 times a power of ten
  const least = (high - low) / most, power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= least);
  const values = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) values.push(Number((k * step).toPrecision(12)));
  return values;
}

function drawPlot() {
  const metric = $("metric").value, rows = tasks, height = 48 + 22 * data.methods.length;
  const scores = data.scores.filter((s) => s.metric === metric && !s.column && s.value !== null);
  const low = Math.min(...scores.map((s) => s.low ?? s.value)), high = Math.max(...scores.map((s) => s.high ?? s.value));
  const span = high - low || 1, width = Math.max($("plot").clientWidth, 280), left = 14, x = (v) => left + (v - low) / span * (width - 2 * left);
  const svg = (tag, attributes, text) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [k, v] of Object.entries(attributes)) made.setAttribute(k, v);
    if (text) made.textContent = text;
    return made;
  };
  const picture = svg("svg", { viewBox: `0 0 ${width} ${rows.length * height}`, role: "img", "aria-label": `${metric} by task and method` });
  rows.forEach((task, r) => {
    const top = r * height;
    const foot = top + height - 22;
    picture.append(svg("text", { x: 0, y: top + 16, "font-weight": 600 }, taskNames[r]));
    for (const value of roundValues(low, low + span, width / 90)) {
      picture.append(svg("line", { x1: x(value), x2: x(value), y1: top + 22, y2: foot }));
      picture.append(svg("text", { x: x(value), y: foot + 14, class: "soft", "text-anchor": "middle" }, String(value)));
    }
    data.methods.forEach((method, m) => {
      const score = find(metric, method, task), y = top + 32 + 22 * m;
      if (!score || score.value === null) return;
      const interval = svg("line", { x1: x(score.low ?? score.value), x2: x(score.high ?? score.value), y1: y, y2: y, "stroke-width": 3 });
      interval.style.stroke = colour(method);
      const dot = svg("circle", { cx: x(score.value), cy: y, r: 5, fill: colour(method) });
      dot.append(svg("title", {}, `${method}: ${digits(score.value)} (${digits(score.low)} to ${digits(score.high)}), ${score.n} films`));
      picture.append(interval, dot);
    });
  });
  const legend = make("div", { class: "legend" });
  for (const method of data.methods) {
    const dot = make("i"); dot.style.background = colour(method);
    legend.append(make("span", {}, dot, method));
  }
  $("plot").replaceChildren(legend, picture);
}

function drawPairs() {
  const names = [...new Set(data.comparisons.map((c) => `${c.method} – ${c.other}`))];
  const head = make("tr", {}, make("th", { text: "metric" }), ...names.map((n) => make("th", { text: n })));
  const body = make("tbody");
  for (const metric of metrics.filter((m) => data.comparisons.some((c) => c.metric === m && !c.column))) {
    const row = make("tr", {}, make("td", { text: data.titles[metric] || metric }));
    for (const name of names) {
      const c = data.comparisons.find((c) => c.metric === metric && !c.column && `${c.method} – ${c.other}` === name);
      const apart = c && c.low !== null && (c.low > 0 || c.high < 0);
      const cell = make("td", { class: apart ? "apart" : "" });
      if (c) cell.append(make("b", { text: digits(c.difference) }), " ", make("small", { text: `${digits(c.low)} to ${digits(c.high)}` }));
      row.append(cell);
    }
    body.append(row);
  }
  $("pairs").replaceChildren(make("thead", {}, head), body);
  if (!names.length) $("pairs").closest("section").hidden = true;
}

function drawAudit() {
  if (!data.responses.length) { $("audit").closest("section").hidden = true; return; }
  const head = make("tr", {}, make("th", { text: "method" }), make("th", { text: "task" }), ...data.audited.map((f) => make("th", { text: f })));
  const body = make("tbody");
  for (const method of data.methods) for (const task of tasks.slice(1)) {
    const row = make("tr", {}, make("td", { text: method }), make("td", { text: task }));
    for (const finding of data.audited) {
      const r = data.responses.find((r) => r.method === method && r.task === task && r.finding === finding);
      const cell = make("td", { class: r && r.target ? "target" : "" });
      if (r) {
        cell.style.background = `rgba(${r.change > 0 ? "214, 69, 65" : "11, 107, 203"}, ${Math.min(Math.abs(r.change), 1) * .6})`;
        cell.append(make("span", { text: digits(r.change) }), " ", make("small", { text: `${digits(r.low)} to ${digits(r.high)}` }));
      }
      row.append(cell);
    }
    body.append(row);
  }
  $("audit").replaceChildren(make("thead", {}, head), body);
}

const PAGE = 24;
let count = PAGE;
function chosen() {
  const [method, task, outcome, order] = ["g-method", "g-task", "g-outcome", "g-order"].map((id) => $(id).value);
  const found = data.cases.filter((c) => (!method || c.method === method) && (!task || c.task === task) && (!outcome || c.outcome === outcome));
  if (order !== "run") found.sort((a, b) => (order === "best" ? -1 : 1) * ((a.margin ?? -9) - (b.margin ?? -9)));
  return found;
}
function pixels(image) {
  const canvas = make("canvas", { width: image.naturalWidth, height: image.naturalHeight });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}
const loaded = (source) => new Promise((done) => { const image = new Image(); image.onload = () => done(image); image.src = source; });
async function paint(view, record) {
  const canvas = view.querySelector("canvas"), kind = view.dataset.view;
  if (kind === "slide") return;
  const before = pixels(await loaded(data.films[record.film].image));
  const other = kind === "difference" ? pixels(await loaded(record.image)) : data.films[record.film].bones ? pixels(await loaded(data.films[record.film].bones)) : null;
  canvas.width = before.width; canvas.height = before.height;
  for (let k = 0; k < before.data.length; k += 4) {
    const grey = before.data[k];
    if (kind === "mask") {
      const inside = other && other.data[k] > 127;
      before.data[k] = grey * (inside ? .6 : 1) + (inside ? 30 : 0); before.data[k + 1] = grey * (inside ? .7 : 1) + (inside ? 60 : 0); before.data[k + 2] = grey * (inside ? .6 : 1) + (inside ? 95 : 0);
    } else {
      const change = Math.max(-1, Math.min(1, (other.data[k] - grey) / 64)), base = grey * .45 + 20;
      before.data[k] = base + Math.max(change, 0) * 200; before.data[k + 1] = base; before.data[k + 2] = base + Math.max(-change, 0) * 200;
    }
  }
  canvas.getContext("2d").putImageData(before, 0, 0);
}
function card(record) {
  const figure = make("figure", { class: "film", "data-outcome": record.outcome });
  if (record.image) {
    const slider = make("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": `${record.film}, ${record.method}: before and after` });
    const view = make("div", { class: "view", "data-view": $("g-view").value },
      make("img", { src: data.films[record.film].image, alt: "before", loading: "lazy" }), make("img", { class: "after", src: record.image, alt: "after", loading: "lazy" }),
      make("canvas"), make("span", { class: "bar" }), make("span", { class: "tag l", text: "before" }), make("span", { class: "tag r", text: "after" }), slider);
    slider.oninput = () => view.style.setProperty("--at", `${slider.value}%`);
    slider.onkeydown = (event) => {
      const wanted = { d: "difference", b: "mask" }[event.key];
      if (!wanted) return;
      view.dataset.view = view.dataset.view === wanted ? "slide" : wanted;
      paint(view, record);
    };
    paint(view, record);
    figure.append(view);
  } else figure.append(make("div", { class: "error", text: record.error }));
  const said = record.before === null || record.before === undefined ? "" : `judge ${digits(record.before)} to ${digits(record.after)}`;
  figure.append(make("figcaption", {}, make("b", { text: record.method }), make("div", { text: record.task }), make("div", { text: said }), make("div", { text: record.film })));
  return figure;
}
function drawGallery() {
  const found = chosen();
  $("gallery").replaceChildren(...found.slice(0, count).map(card));
  $("count").textContent = `${Math.min(count, found.length)} of ${found.length} films` + (data.left_out ? `; ${data.left_out} more are in the run's folder` : "");
  $("more").hidden = count >= found.length;
}

options($("task"), tasks, taskNames);
options($("metric"), metrics, metrics.map((m) => data.titles[m] || m));
options($("g-method"), ["", ...data.methods], ["any", ...data.methods]);
options($("g-task"), ["", ...tasks.slice(1)], ["any", ...tasks.slice(1)]);
$("task").onchange = $("which").onchange = drawScores;
$("metric").onchange = window.onresize = drawPlot;
for (const id of ["g-method", "g-task", "g-outcome", "g-order", "g-view"]) $(id).onchange = () => { count = PAGE; drawGallery(); };
$("more").onclick = () => { count += PAGE; drawGallery(); };
$("theme").onclick = () => {
  const dark = document.documentElement.classList.contains("dark") || (!document.documentElement.classList.contains("light") && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.className = dark ? "light" : "dark";
};
drawScores(); drawPlot(); drawPairs(); drawAudit(); drawGallery();
