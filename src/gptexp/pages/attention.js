// Show the attention of one head: a square of weights, and the text with the weights of one token over the others.
"use strict";

function showAttention(box) {
  const record = JSON.parse(document.getElementById("attention").textContent);
  const { layers, heads, tokens, texts } = record;
  const weights = Uint8Array.from(atob(record.weights), (character) => character.charCodeAt(0));
  const state = { layer: layers - 1, head: 0, query: tokens - 1 };
  const weight = (query, key) => weights[((state.layer * heads + state.head) * tokens + query) * tokens + key] / 255;

  const controls = box.appendChild(htmlElement("div", { class: "attention-controls" }));
  for (const [name, count] of [["layer", layers], ["head", heads]]) {
    const label = controls.appendChild(htmlElement("label", {}, `${name} `));
    const select = label.appendChild(htmlElement("select"));
    for (let number = 0; number < count; number++) select.append(htmlElement("option", { value: number }, number + 1));
    select.value = state[name];
    select.addEventListener("change", () => {
      state[name] = Number(select.value);
      draw();
    });
  }
  const readout = controls.appendChild(htmlElement("span", { role: "status", class: "note" }));
  const body = box.appendChild(htmlElement("div", { class: "attention-body" }));
  const map = body.appendChild(
    svgElement("svg", {
      viewBox: `0 0 ${tokens} ${tokens}`,
      tabindex: 0,
      role: "application",
      "aria-label": "Attention: a row for each token, a column for each token that it reads. Arrow keys choose the row.",
    }),
  );
  const text = body.appendChild(htmlElement("p", { class: "attention-text" }));
  const spans = texts.map((content, index) => {
    const span = text.appendChild(htmlElement("span", {}, content));
    span.addEventListener("pointerenter", () => choose(index));
    return span;
  });

  function draw() {
    map.replaceChildren(svgElement("rect", { class: "frame", width: tokens, height: tokens }));
    for (let query = 0; query < tokens; query++)
      for (let key = 0; key < tokens; key++) {
        const value = weight(query, key);
        if (value < 0.01) continue;
        map.append(svgElement("rect", { class: "weight", x: key, y: query, width: 1, height: 1, "fill-opacity": Math.sqrt(value).toFixed(2) }));
      }
    map.append(svgElement("rect", { class: "row", width: tokens, height: 1 }));
    choose(state.query);
  }

  function choose(query, key) {
    state.query = Math.max(0, Math.min(query, tokens - 1));
    map.lastChild.setAttribute("y", state.query);
    let strongest = 0;
    spans.forEach((span, index) => {
      const value = weight(state.query, index);
      if (value > weight(state.query, strongest)) strongest = index;
      const share = Math.round(70 * Math.sqrt(value));
      span.style.background = `color-mix(in srgb, var(--series-1) ${share}%, transparent)`;
      span.classList.toggle("query", index === state.query);
    });
    const shown = key ?? strongest;
    const label = key === undefined ? "reads most from" : "reads from";
    readout.textContent = `${quote(state.query)} ${label} ${quote(shown)}: ${Math.round(100 * weight(state.query, shown))} %`;
  }

  const quote = (index) => `“${texts[index].trim() || texts[index]}”`;
  map.addEventListener("pointermove", (event) => {
    const area = map.getBoundingClientRect();
    const place = (offset, length) => Math.max(0, Math.min(Math.floor((offset / length) * tokens), tokens - 1));
    choose(place(event.clientY - area.top, area.height), place(event.clientX - area.left, area.width));
  });
  map.addEventListener("keydown", (event) => {
    const moves = { ArrowUp: -1, ArrowDown: 1, ArrowLeft: -1, ArrowRight: 1 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    choose(state.query + moves[event.key]);
  });
  draw();
}

showAttention(document.getElementById("attention-view"));
