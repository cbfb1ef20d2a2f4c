"use strict";
(function () {
  const root = document.documentElement, holder = document.getElementById("data");
  root.classList.add("js");
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.dataset.was = d.open ? "1" : ""; d.open = true; }));
  addEventListener("afterprint", () => document.querySelectorAll("details").forEach((d) => { d.open = d.dataset.was === "1"; }));
  if (!holder) return;
  const data = JSON.parse(holder.textContent), plot = document.getElementById("plot"), slider = document.getElementById("round");
  const colour = document.getElementById("colour"), legend = document.getElementById("legend"), panel = document.getElementById("point");
  const n = data.x.length, NS = "http://www.w3.org/2000/svg", px = (i) => data.x[i] / 2.5, py = (i) => data.y[i] / 2.5;
  const place = new Map(data.points.map((p, i) => [p, i]));
  const STATE = { pool: "#c3c8ce", start: "#1f2328", labelled: "#0072B2", asked: "#D55E00", pending: "#CC79A7", skipped: "#7A4A1E" };
  const PHASE = { pool: "#c3c8ce", start: "#1f2328", exploration: "#0072B2", refinement: "#D55E00", "another reason": "#009E73" };
  let pinned = -1;

  function stateAt(i, round) {
    const arrived = data.arrived[i], asked = data.asked[i];
    if (asked === round && !(arrived >= 0 && arrived <= round)) return "asked";
    if (arrived === 0) return "start";
    if (arrived > 0 && arrived <= round) return "labelled";
    if (asked >= 0 && asked < round) return data.skipped[i] ? "skipped" : arrived < 0 ? "pending" : "labelled";
    return "pool";
  }
  function groups(round) {
    const found = new Map(), put = (key, i) => { if (!found.has(key)) found.set(key, []); found.get(key).push(i); };
    for (let i = 0; i < n; i++) {
      const state = stateAt(i, round), known = state === "labelled" || state === "start";
      if (colour.value === "class") put(known && data.label[i] !== "" ? data.label[i] : "pool", i);
      else if (colour.value === "phase") put(state === "pool" ? "pool" : state === "start" ? "start" : data.phase[i] || "another reason", i);
      else put(state, i);
    }
    return found;
  }
  const words = { pool: "in the pool", start: "labelled at the start", labelled: "labelled since", asked: "asked after this round", pending: "waiting for an answer", skipped: "skipped" };
  const shade = (key) => colour.value === "class" ? (key === "pool" ? STATE.pool : data.colours[data.classes.indexOf(key) % data.colours.length]) : (colour.value === "phase" ? PHASE : STATE)[key] || "#009E73";
  function draw() {
    const round = Number(slider.value), found = groups(round);
    document.getElementById("shown").textContent = round;
    plot.replaceChildren(); legend.replaceChildren();
    const order = [...found.keys()].sort((a, b) => (b === "pool") - (a === "pool") || (a === "asked") - (b === "asked") || (a < b ? -1 : 1));
    for (const key of order) {
      const path = document.createElementNS(NS, "path"), members = found.get(key);
      path.setAttribute("d", members.map((i) => `M${px(i)} ${py(i)}h0`).join(""));
      path.setAttribute("stroke", shade(key)); path.setAttribute("stroke-width", key === "pool" ? data.small : key === "asked" ? 8 : 6);
      path.setAttribute("stroke-linecap", "round"); path.setAttribute("fill", "none"); plot.append(path);
      const item = document.createElement("li"), dot = document.createElement("i");
      dot.style.background = shade(key); item.append(dot, `${words[key] || key} (${members.length.toLocaleString("en")})`); legend.append(item);
    }
    if (pinned >= 0) mark(pinned);
  }
  function mark(i) {
    plot.querySelectorAll(".mark").forEach((e) => e.remove());
    for (const j of data.near[data.points[i]] || []) {
      const at = place.get(j);
      if (at === undefined) continue;
      const line = document.createElementNS(NS, "line");
      for (const [name, value] of [["x1", px(i)], ["y1", py(i)], ["x2", px(at)], ["y2", py(at)], ["stroke", "#1f2328"], ["stroke-width", 0.8], ["class", "mark"]]) line.setAttribute(name, value);
      plot.append(line);
    }
    const ring = document.createElementNS(NS, "circle");
    for (const [name, value] of [["cx", px(i)], ["cy", py(i)], ["r", 6], ["fill", "none"], ["stroke", "#1f2328"], ["stroke-width", 1.6], ["class", "mark"]]) ring.setAttribute(name, value);
    plot.append(ring);
  }
  function line(text, tag) { const e = document.createElement(tag || "div"); e.textContent = text; return e; }
  function tell(i) {
    const index = data.points[i], picture = document.querySelector(`img[data-point="${index}"]`), source = picture ? picture.src : data.images[index];
    panel.replaceChildren();
    if (source) { const image = new Image(); image.src = source; image.alt = `point ${data.ids[index] || index}`; panel.append(image); }
    if (data.texts[index]) panel.append(line(data.texts[index], "blockquote"));
    const name = line("", "p"); name.append(line(data.ids[index] || String(index), "code")); panel.append(name);
    if (data.label[i] !== "") panel.append(line(`label: ${data.label[i]}`));
    if (data.why[index]) panel.append(line(data.why[index]));
    const near = data.near[index] || [];
    if (near.length) panel.append(line("neighbours: " + near.map((j) => (data.ids[j] || j) + (place.has(j) && data.label[place.get(j)] !== "" ? ` (${data.label[place.get(j)]})` : "")).join(", ")));
    mark(i);
  }
  function nearest(event) {
    const box = plot.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * 400, y = (event.clientY - box.top) / box.height * 400;
    let best = -1, least = 144;
    for (let i = 0; i < n; i++) {
      let far = (px(i) - x) ** 2 + (py(i) - y) ** 2;
      if (data.asked[i] >= 0 || data.arrived[i] >= 0) far -= 9;
      if (far < least) { least = far; best = i; }
    }
    return best;
  }
  plot.addEventListener("pointermove", (event) => { if (pinned < 0) { const i = nearest(event); if (i >= 0) tell(i); } });
  plot.addEventListener("click", (event) => { const i = nearest(event); pinned = i === pinned ? -1 : i; if (i >= 0) tell(i); });
  slider.addEventListener("input", draw); colour.addEventListener("change", draw);
  draw();
})();
