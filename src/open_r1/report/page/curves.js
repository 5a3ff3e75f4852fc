// The curves over the steps: small charts side by side, each line with a dash pattern of its own and named beneath.
"use strict";

const COLOURS = ["var(--c0)", "var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)", "var(--c5)"];
const DASHES = ["", "7 3", "9 3 2 3", "12 4", "4 4", "12 3 2 3 2 3"];
const KEPT = { fill: "none", stroke: "var(--ink)", "stroke-dasharray": "2 2" };
const BOX = { width: 400, height: 170, left: 34, right: 8, top: 8, bottom: 22 };

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Centred mean over a tenth of the points; what is null is left out.
function smooth(values) {
  const reach = Math.floor(values.length / 20);
  return values.map((_, i) => {
    const near = values.slice(Math.max(0, i - reach), i + reach + 1).filter((value) => value != null);
    return near.length ? near.reduce((sum, value) => sum + value, 0) / near.length : null;
  });
}

// A path through the points, with a gap wherever there is no value.
function path(steps, values, x, y) {
  let pen = "M";
  return values.map((value, i) => {
    if (value == null) { pen = "M"; return ""; }
    const point = `${pen}${x(steps[i]).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = "L";
    return point;
  }).join("");
}

// The line of the i-th source, the same in every chart.
const styled = (i) => ({ fill: "none", stroke: COLOURS[i % 6], "stroke-dasharray": DASHES[i % 6] });

// One chart of lines [metric, label, style]; a click tells `choose` the step. Returns {figure, mark}, mark(step) draws a line there.
function chart(title, lines, top, curves, written, choose) {
  const steps = curves.map((line) => line.step), last = Math.max(...steps, 2), first = Math.min(...steps);
  const x = (step) => BOX.left + (step - first) / (last - first || 1) * (BOX.width - BOX.left - BOX.right);
  const y = (value) => BOX.height - BOX.bottom - value / top * (BOX.height - BOX.top - BOX.bottom);
  const picture = svg("svg", { viewBox: `0 0 ${BOX.width} ${BOX.height}`, role: "img", "aria-label": title });
  for (const value of [0, top / 2, top]) {
    picture.append(
      svg("line", { class: "grid", x1: BOX.left, x2: BOX.width - BOX.right, y1: y(value), y2: y(value) }),
      svg("text", { x: BOX.left - 5, y: y(value) + 4, "text-anchor": "end" }, String(value)));
  }
  for (const step of written) picture.append(svg("line", { class: "tick", x1: x(step), x2: x(step), y1: y(0), y2: y(0) + 4 }));
  picture.append(
    svg("text", { x: BOX.left, y: BOX.height - 4 }, String(first)),
    svg("text", { x: BOX.width - BOX.right, y: BOX.height - 4, "text-anchor": "end" }, `step ${last}`));
  const legend = document.createElement("ul");
  for (const [metric, label, style] of lines) {
    const values = curves.map((line) => line[metric]);
    if (steps.length > 20) picture.append(svg("path", { d: path(steps, values, x, y), fill: "none", stroke: style.stroke, opacity: .22 }));
    picture.append(svg("path", { d: path(steps, smooth(values), x, y), "stroke-width": 2, ...style }));
    const item = document.createElement("li");
    item.append(svg("svg", { viewBox: "0 0 32 8", class: "sample" }, svg("path", { d: "M0 4L32 4", "stroke-width": 3, ...style })), label);
    legend.append(item);
  }
  const marker = svg("line", { class: "marker", y1: BOX.top, y2: y(0), visibility: "hidden" });
  picture.append(marker);
  picture.addEventListener("click", (event) => {
    const box = picture.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width * BOX.width;
    choose(written.reduce((best, step) => Math.abs(x(step) - at) < Math.abs(x(best) - at) ? step : best));
  });
  const figure = document.createElement("figure"), caption = document.createElement("figcaption");
  caption.textContent = title;
  figure.append(caption, picture, legend);
  const mark = (step) => {
    marker.setAttribute("visibility", step == null ? "hidden" : "visible");
    if (step != null) for (const end of ["x1", "x2"]) marker.setAttribute(end, x(step));
  };
  return { figure, mark };
}

// Rewards, kept shares and dead groups of a run, as far as metrics.jsonl has them.
function charts(curves, sources, written, choose) {
  const names = Object.keys(curves[0] ?? {});
  const own = (pattern) => sources.map((source, i) => [pattern(source, i), source, styled(i)]);
  return [
    ["Mean reward before selection, and of what is kept", 2, [
      ...own((source, i) => `${i ? "external/" : ""}${source}/reward`), ["kept/reward", "kept", KEPT]]],
    ["Share of the kept candidates", 1, own((source) => `kept_share/${source}`)],
    ["Share of dead groups", 1, [["dead_groups/before", "the policy's own", styled(0)], ["dead_groups/after", "kept", KEPT]]],
  ].map(([title, top, lines]) => [title, top, lines.filter(([metric]) => names.includes(metric))])
    .filter(([, , lines]) => lines.length)
    .map(([title, top, lines]) => chart(title, lines, top, curves, written, choose));
}
