// Draw the curves of a page as SVG from the JSON in its element #charts.
//
// All charts share one view: the quantity of the x axis, its scale, the range that is zoomed to, the cursor, and the
// curves that are hidden. Colours come from CSS, so that they follow light, dark and print. Texts are set as textContent
// alone: names of runs and metrics are data.
"use strict";

const MARGIN = { top: 10, right: 14, bottom: 30, left: 54 };
const DRAG_PIXELS = 6; // a shorter drag is a click
const MAX_MARKERS = 60; // of a curve; with more they would run together
const MAX_ROWS = 14; // of values at the cursor

function svgElement(name, attributes = {}, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
}

function htmlElement(name, attributes = {}, text = "") {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
}

class View {
  constructor(runs) {
    this.runs = runs;
    this.axis = "step";
    this.isLog = false;
    this.range = null; // [low, high] of the x axis; null: everything
    this.cursor = null;
    this.hidden = new Set(); // labels of curves
    this.charts = [];
  }
  get axes() {
    return Object.keys(AXES).filter((axis) => this.runs.every((run) => run.x[axis]));
  }
  change(changes) {
    Object.assign(this, changes);
    for (const chart of this.charts) chart.draw();
    this.onChange?.();
  }
  moveCursor(value, owner) {
    this.cursor = value;
    for (const chart of this.charts) {
      chart.ownsCursor = chart === owner;
      chart.drawCursor();
    }
  }
  // Return the range of x over all curves that are drawn.
  extent() {
    const ends = this.charts.flatMap((chart) =>
      chart.curves().flatMap((curve) => {
        const positive = this.isLog ? curve.x.filter((value) => value > 0) : curve.x;
        return positive.length ? [positive[0], positive.at(-1)] : [];
      }),
    );
    const high = Math.max(...ends);
    const first = Math.min(...ends);
    const low = !this.isLog && first > 0 && first < 0.2 * high ? 0 : first;
    return ends.length ? [low, high > low ? high : low + 1] : [this.isLog ? 1 : 0, 10];
  }
}

class Chart {
  constructor(figure, spec, view) {
    Object.assign(this, { figure, spec, view, isLog: false, ownsCursor: false });
    view.charts.push(this);
    this.plot = figure.appendChild(htmlElement("div", { class: "plot" }));
    this.svg = this.plot.appendChild(
      svgElement("svg", {
        tabindex: 0,
        role: "application",
        "aria-label": `${spec.title}. Arrow keys move the cursor, plus and minus zoom, Escape shows everything.`,
      }),
    );
    this.tip = this.plot.appendChild(htmlElement("div", { class: "tip", role: "status", hidden: "" }));
    if (figure.classList.contains("large")) this.addLegend();
    this.addScaleButton();
    this.addTable();
    this.listen();
    new ResizeObserver(() => this.plot.clientWidth && this.draw()).observe(this.plot);
  }

  // Return the visible curves with their points on the present axis.
  curves() {
    const { axis, runs, hidden } = this.view;
    return this.spec.series
      .filter((series) => !hidden.has(series.label))
      .map((series) => {
        const all = runs[series.run].x[axis];
        return { series, x: series.at ? series.at.map((index) => all[index]) : all, y: series.y };
      });
  }

  draw() {
    const isLarge = this.figure.classList.contains("large");
    const width = (this.width = Math.max(220, this.plot.clientWidth));
    const height = (this.height = isLarge ? Math.min(360, Math.max(240, width * 0.42)) : 180);
    const [low, high] = this.view.range ?? this.view.extent();
    const curves = this.curves();
    this.x = new Scale(low, high, MARGIN.left, width - MARGIN.right, this.view.isLog);
    const isTime = this.view.axis === "seconds";
    const countX = Math.max(2, Math.floor(width / (isTime ? 150 : 115)));
    const ticksX = this.view.isLog ? logTicks(low, high, countX) : linearTicks(low, high, countX, isTime);
    const [bottom, top] = this.rangeY(curves, low, high);
    this.y = new Scale(bottom, top, height - MARGIN.bottom, MARGIN.top, this.isLog);
    const countY = Math.max(3, Math.floor(height / 62));
    const ticksY = this.isLog ? logTicks(bottom, top, countY) : linearTicks(bottom, top, countY, false);

    this.svg.replaceChildren();
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const clip = `clip-${this.view.charts.indexOf(this)}`;
    const area = { x: MARGIN.left, y: 0, width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.bottom };
    this.svg.append(svgElement("clipPath", { id: clip }));
    this.svg.firstChild.append(svgElement("rect", { ...area, x: area.x - 4, width: area.width + 8 }));
    for (const tick of ticksY) {
      const y = this.y.pixel(tick);
      this.svg.append(svgElement("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y, y2: y }));
      this.svg.append(svgElement("text", { class: "tick-y", x: MARGIN.left - 9, y: y + 4 }, formatValue(tick, this.spec.unit === "%" ? "%" : "")));
    }
    for (const tick of ticksX) {
      const x = this.x.pixel(tick);
      const isEdge = x > width - 40;
      this.svg.append(svgElement("text", { class: isEdge ? "tick-end" : "tick-x", x: isEdge ? width : x, y: height - 9 }, AXES[this.view.axis].format(tick)));
    }
    const lines = this.svg.appendChild(svgElement("g", { "clip-path": `url(#${clip})` }));
    for (const curve of curves) this.drawCurve(lines, curve);
    this.selection = this.svg.appendChild(svgElement("rect", { class: "selection", y: 0, height: height - MARGIN.bottom, width: 0 }));
    this.cursor = this.svg.appendChild(svgElement("g", { class: "cursor" }));
    this.drawCursor();
  }

  // Return the range of y over the points that are in view.
  rangeY(curves, low, high) {
    let bottom = Infinity;
    let top = -Infinity;
    for (const { x, y } of curves)
      y.forEach((value, index) => {
        if (value === null || x[index] < low || x[index] > high || (this.isLog && value <= 0)) return;
        bottom = Math.min(bottom, value);
        top = Math.max(top, value);
      });
    if (bottom > top) return this.isLog ? [1, 10] : [0, 1];
    if (this.isLog) return top > bottom ? [bottom / 1.05, top * 1.05] : [bottom / 2, top * 2];
    if (this.spec.zero) bottom = Math.min(0, bottom);
    const pad = 0.06 * (top - bottom) || Math.abs(top) * 0.1 || 1;
    return [this.spec.zero && bottom === 0 ? 0 : bottom - pad, top + pad];
  }

  drawCurve(parent, { series, x, y }) {
    const parts = [];
    const markers = [];
    let isConnected = false;
    y.forEach((value, index) => {
      const isShown = value !== null && !(this.isLog && value <= 0) && !(this.view.isLog && x[index] <= 0);
      if (isShown) {
        const point = `${this.x.pixel(x[index]).toFixed(1)} ${this.y.pixel(value).toFixed(1)}`;
        parts.push(`${isConnected ? "L" : "M"}${point}`);
        markers.push(point.split(" "));
      }
      isConnected = isShown;
    });
    const classes = `curve series-${series.color} ${series.style}`;
    parent.append(svgElement("path", { class: classes, d: parts.join(""), "data-label": series.label }));
    if ((series.style === "bold" || markers.length === 1) && markers.length <= MAX_MARKERS)
      for (const [cx, cy] of markers)
        parent.append(svgElement("circle", { class: `marker series-${series.color}`, cx, cy, r: 2.6 }));
  }

  // Draw the line and the points at the cursor of the view, and the values where the cursor is in this chart.
  drawCursor() {
    this.cursor.replaceChildren();
    this.tip.hidden = true;
    const at = this.view.cursor;
    const curves = this.curves().filter((curve) => curve.x.length);
    if (at === null || !curves.length) return;
    const x = this.x.pixel(at);
    if (!(x >= MARGIN.left - 1 && x <= this.width - MARGIN.right + 1)) return;
    this.cursor.append(svgElement("line", { x1: x, x2: x, y1: 0, y2: this.height - MARGIN.bottom }));
    const axis = AXES[this.view.axis];
    const rows = [htmlElement("strong", {}, `${axis.format(at)} ${this.view.axis === "seconds" ? "" : axis.title}`)];
    for (const curve of curves) {
      const index = nearestIndex(curve.x, at);
      const value = curve.y[index];
      if (value === null || Math.abs(this.x.pixel(curve.x[index]) - x) > 60) continue;
      const dot = { class: `marker series-${curve.series.color}`, cx: this.x.pixel(curve.x[index]), cy: this.y.pixel(value), r: 4 };
      this.cursor.append(svgElement("circle", dot));
      const row = htmlElement("span", { class: "value" });
      const place = curve.x[index] === at ? "" : ` at ${axis.format(curve.x[index])}`;
      row.append(
        htmlElement("i", { class: `swatch series-${curve.series.color}` }),
        htmlElement("span", {}, `${[curve.series.label, curve.series.detail].filter(Boolean).join(" ")}${place}`),
        htmlElement("b", {}, formatValue(value, this.spec.unit)),
      );
      rows.push(row);
    }
    if (!this.ownsCursor) return;
    const rest = rows.length - 1 - MAX_ROWS;
    if (rest > 0) rows.splice(1 + MAX_ROWS, rest, htmlElement("span", {}, `and ${rest} more`));
    this.tip.replaceChildren(...rows);
    this.tip.hidden = false;
    const isLeft = x > this.width / 2;
    const left = isLeft ? x - this.tip.offsetWidth - 12 : x + 12;
    this.tip.style.left = `${Math.max(0, Math.min(left, this.width - this.tip.offsetWidth))}px`;
  }

  // Return the x of the point that is nearest to a value, over all visible curves.
  snap(value) {
    const nearest = this.curves().filter((curve) => curve.x.length).map((curve) => curve.x[nearestIndex(curve.x, value)]);
    if (!nearest.length) return null;
    const distance = (x) => Math.abs(this.x.pixel(x) - this.x.pixel(value));
    return nearest.reduce((best, x) => (distance(x) < distance(best) ? x : best));
  }

  listen() {
    let start = null;
    const pixelOf = (event) => {
      const box = this.svg.getBoundingClientRect();
      const pixel = ((event.clientX - box.left) * this.width) / box.width;
      return Math.max(MARGIN.left, Math.min(pixel, this.width - MARGIN.right));
    };
    const { svg, view } = this;
    svg.addEventListener("pointerdown", (event) => {
      view.moveCursor(this.snap(this.x.value(pixelOf(event))), this);
      if (event.pointerType === "mouse" && event.button === 0) {
        start = pixelOf(event);
        svg.setPointerCapture(event.pointerId);
      }
    });
    svg.addEventListener("pointermove", (event) => {
      const pixel = pixelOf(event);
      view.moveCursor(this.snap(this.x.value(pixel)), this);
      if (start === null) return;
      this.selection.setAttribute("x", Math.min(start, pixel));
      this.selection.setAttribute("width", Math.abs(pixel - start));
    });
    svg.addEventListener("pointerup", (event) => {
      const end = pixelOf(event);
      const from = start;
      start = null;
      this.selection.setAttribute("width", 0);
      if (from !== null && Math.abs(end - from) >= DRAG_PIXELS)
        view.change({ range: [this.x.value(Math.min(from, end)), this.x.value(Math.max(from, end))] });
    });
    svg.addEventListener("pointercancel", () => { start = null; });
    svg.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") view.moveCursor(null, null); // after a touch, the values stay
    });
    svg.addEventListener("blur", () => view.moveCursor(null, null));
    svg.addEventListener("dblclick", () => view.change({ range: null }));
    svg.addEventListener("keydown", (event) => this.onKey(event));
  }

  onKey(event) {
    const { view } = this;
    const [low, high] = view.range ?? view.extent();
    const stops = [...new Set(this.curves().flatMap((curve) => curve.x))].filter((x) => x >= low && x <= high).sort((a, b) => a - b);
    if (!stops.length || event.ctrlKey || event.metaKey || event.altKey) return;
    const index = view.cursor === null ? -1 : nearestIndex(stops, view.cursor);
    const stride = event.shiftKey ? 10 : 1;
    const move = (target) => view.moveCursor(stops[Math.max(0, Math.min(target, stops.length - 1))], this);
    const zoom = (factor) => {
      const center = this.x.pixel(view.cursor ?? stops[stops.length >> 1]);
      const reach = (this.x.length * factor) / 2;
      const clamp = (pixel) => Math.max(MARGIN.left, Math.min(pixel, this.width - MARGIN.right));
      view.change({ range: factor > 1 ? null : [clamp(center - reach), clamp(center + reach)].map((pixel) => this.x.value(pixel)) });
    };
    const actions = {
      ArrowRight: () => move(index + stride),
      ArrowLeft: () => move(index < 0 ? stops.length - 1 : index - stride),
      Home: () => move(0),
      End: () => move(stops.length - 1),
      "+": () => zoom(0.5),
      "=": () => zoom(0.5),
      "-": () => zoom(2),
      Escape: () => { view.change({ range: null }); view.moveCursor(null, null); },
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  }

  addLegend() {
    const labels = [...new Map(this.spec.series.map((series) => [series.label, series.color]))];
    if (labels.length < 2) return;
    const legend = htmlElement("div", { class: "legend", role: "group", "aria-label": "curves" });
    for (const [label, color] of labels) {
      const button = htmlElement("button", { type: "button", class: "entry", "aria-pressed": "true" });
      button.append(htmlElement("i", { class: `swatch series-${color}` }), htmlElement("span", {}, label));
      button.addEventListener("click", () => {
        const hidden = new Set(this.view.hidden);
        if (!hidden.delete(label)) hidden.add(label);
        button.setAttribute("aria-pressed", !hidden.has(label));
        this.view.change({ hidden });
      });
      const emphasise = (isOn) => {
        for (const path of document.querySelectorAll("path.curve"))
          path.classList.toggle("faint", isOn && path.dataset.label !== label);
      };
      button.addEventListener("pointerenter", () => emphasise(true));
      button.addEventListener("pointerleave", () => emphasise(false));
      legend.append(button);
    }
    this.plot.before(legend);
  }

  addScaleButton() {
    if (!this.spec.series.some((series) => series.y.some((value) => value > 0))) return;
    const button = htmlElement("button", { type: "button", class: "scale", "aria-pressed": "false", "aria-label": `log scale of ${this.spec.title}` }, "log");
    button.addEventListener("click", () => {
      this.isLog = !this.isLog;
      button.setAttribute("aria-pressed", this.isLog);
      this.draw();
    });
    this.figure.querySelector("figcaption").append(button);
  }

  // Add the points that are drawn as a table, which is built when it is opened.
  addTable() {
    const details = this.figure.appendChild(htmlElement("details"));
    details.append(htmlElement("summary", {}, "values"));
    details.addEventListener("toggle", () => {
      if (details.open && details.children.length === 1) details.append(this.buildTable());
    });
  }

  buildTable() {
    const { runs, axes } = this.view;
    const isSingle = runs.length === 1;
    const names = [...new Set(this.spec.series.map((series) => (isSingle ? series.label : series.detail || this.spec.title)))];
    const rows = new Map();
    for (const series of this.spec.series)
      series.y.forEach((value, position) => {
        const index = series.at ? series.at[position] : position;
        const key = `${series.run} ${index}`;
        if (!rows.has(key)) rows.set(key, { run: series.run, index, values: {} });
        rows.get(key).values[isSingle ? series.label : series.detail || this.spec.title] = value;
      });
    const table = htmlElement("table");
    const head = table.createTHead().insertRow();
    for (const title of [...(isSingle ? [] : ["run"]), ...axes.map((axis) => AXES[axis].title), ...names])
      head.append(htmlElement("th", { scope: "col" }, title));
    const body = table.createTBody();
    for (const { run, index, values } of [...rows.values()].sort((a, b) => a.run - b.run || a.index - b.index)) {
      const row = body.insertRow();
      if (!isSingle) row.insertCell().textContent = runs[run].name;
      for (const axis of axes) row.append(htmlElement("td", { class: "number" }, axis === "step" ? runs[run].x.step[index].toLocaleString("en") : AXES[axis].format(runs[run].x[axis][index])));
      for (const name of names)
        row.append(htmlElement("td", { class: "number" }, values[name] == null ? "" : formatValue(values[name], this.spec.unit)));
    }
    const box = htmlElement("div", { class: "scroll values", tabindex: 0, role: "group", "aria-label": `values of ${this.spec.title}` });
    box.append(table);
    return box;
  }
}

// Add the buttons that choose the x axis of all charts.
function addControls(box, view) {
  const group = htmlElement("div", { role: "group", "aria-label": "horizontal axis", class: "segments" });
  for (const axis of view.axes) {
    const button = htmlElement("button", { type: "button", "aria-pressed": axis === view.axis }, AXES[axis].title);
    button.addEventListener("click", () => {
      for (const other of group.children) other.setAttribute("aria-pressed", other === button);
      view.change({ axis, range: null, cursor: null });
    });
    group.append(button);
  }
  const log = htmlElement("button", { type: "button", "aria-pressed": "false", "aria-label": "log scale of the horizontal axis" }, "log");
  log.addEventListener("click", () => {
    log.setAttribute("aria-pressed", !view.isLog);
    view.change({ isLog: !view.isLog, range: null });
  });
  const reset = htmlElement("button", { type: "button", hidden: "" }, "show everything");
  reset.addEventListener("click", () => view.change({ range: null }));
  view.onChange = () => { reset.hidden = view.range === null; };
  box.append(group, log, reset);
}

function drawCharts() {
  const { runs, charts } = JSON.parse(document.getElementById("charts").textContent);
  const view = new View(runs);
  for (const figure of document.querySelectorAll("figure[data-chart]")) new Chart(figure, charts[figure.dataset.chart], view);
  addControls(document.querySelector(".chart-controls"), view);
  for (const chart of view.charts) chart.draw();
}

drawCharts();
