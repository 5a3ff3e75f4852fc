// The list of prompts with their candidates, and its filters. Every text of the data enters by textContent or append.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const FILTERS = ["group", "source", "kept", "order", "find"];
const PARTS = ["accuracy", "format", "full", "partial"].filter((part) => data.groups.some((group) => group.candidates.some((c) => part in c)));
const SHAPES = "●▲■◆▼★"; // with the name of a source, so that it is found at a glance and without colour

function el(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const number = (value) => value == null ? "–" : String(Math.round(value * 100) / 100);
const signed = (value) => value == null ? "–" : (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(2);

function chosen() {
  const picked = Object.fromEntries(FILTERS.map((id) => [id, $(id).value]));
  return { ...picked, find: picked.find.toLowerCase(), step: data.written[$("step").value - 1] };
}

// What a group is called, from the most particular to the plainest.
function fate(dead) {
  if (dead.pool) return ["dead", "dead: the whole pool is equal"];
  if (dead.update) return dead.before ? ["dead", "dead"] : ["dead", "dead: made equal by selection"];
  if (dead.before) return ["saved", "teaches; the policy's own were all equal"];
  return ["live", "teaches"];
}

const GROUPS = {
  "": () => true,
  live: (dead) => !dead.update,
  dead: (dead) => dead.update,
  saved: (dead) => dead.before && !dead.update,
  lost: (dead) => !dead.before && dead.after,
  pool: (dead) => dead.pool,
};

// The candidates of a group that pass the filters, in the order wished; none where the group itself does not pass.
function passing(group, filters) {
  if (filters.step != null && group.step !== filters.step || !GROUPS[filters.group](group.dead)) return [];
  const found = (...texts) => texts.some((text) => text.toLowerCase().includes(filters.find));
  const whole = found(group.id, group.problem, group.answer);
  const candidates = group.candidates.filter((c) =>
    (!filters.source || (filters.source === "*" ? c.source !== data.sources[0] : c.source === filters.source.slice(1)))
    && (!filters.kept || c.kept === (filters.kept === "yes"))
    && (whole || found(c.text)));
  return filters.order ? candidates : candidates.sort((a, b) => a.rank - b.rank);
}

function row(c) {
  const source = data.sources.indexOf(c.source);
  const text = el("div", { className: "text clamped" }, c.text), reply = el("div", { className: "fold" }, text);
  const cells = [
    el("td", { className: "number" }, String(c.rank + 1)),
    el("td", { className: `source s${source % 6}` }, `${SHAPES[source % 6]} ${c.source}`),
    el("td", {}, c.kept ? "✓ kept" : "left out"),
    el("td", { className: "number" }, signed(c.advantage)),
    el("td", { className: "number reward" }, number(c.reward)),
    ...PARTS.map((part) => el("td", { className: "number" }, number(c[part]))),
    el("td", { className: "said" }, c.said ?? "–"),
    el("td", { className: "reply" }, reply, ...(c.truncated ? [el("em", {}, "cut at the longest completion")] : [])),
  ];
  if (c.text.length > 80 || c.text.split("\n").length > 2) {
    const more = el("button", { type: "button", className: "more", ariaExpanded: "false" }, "more");
    more.onclick = () => {
      const open = !text.classList.toggle("clamped");
      more.textContent = open ? "less" : "more";
      more.ariaExpanded = String(open);
    };
    reply.append(more);
  }
  return el("tr", { className: c.kept ? "kept" : "" }, ...cells);
}

function pictures(group) {
  const shown = group.pictures.map((index, i) => index == null
    ? el("p", { className: "lost" }, "picture not readable")
    : el("img", { src: data.pictures[index], alt: `picture ${i + 1} of ${group.id}`, decoding: "async" }));
  return el("div", { className: "pictures" }, ...shown);
}

// Fill in one prompt's article; this is done when it comes near the window.
function fill(article, group, candidates) {
  const [kind, words] = fate(group.dead);
  const heads = ["rank", "source", "kept", "advantage", "reward", ...PARTS, "answer", "reply"];
  const facts = [`step ${group.step}`, group.id, ...(group.kind ? [group.kind] : [])];
  article.style.minHeight = "";
  article.append(
    el("p", { className: "facts" }, facts.join(" · "), " ", el("strong", { className: `fate ${kind}` }, words)),
    pictures(group),
    el("div", { className: "asked" },
      el("h2", {}, group.problem),
      el("p", {}, "True answer: ", el("b", { className: "answer" }, group.answer)),
      el("div", { className: "scroll" }, el("table", {},
        el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
        el("tbody", {}, ...candidates.map(row))))));
}

const waiting = new Map(); // an article that is still empty -> what goes into it
const near = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting || !waiting.has(target)) continue;
    fill(target, ...waiting.get(target));
    waiting.delete(target);
    near.unobserve(target);
  }
}, { rootMargin: "1500px" });

function show() {
  const filters = chosen();
  const found = data.groups.map((group) => [group, passing(group, filters)]).filter(([, candidates]) => candidates.length);
  near.disconnect();
  waiting.clear();
  $("groups").replaceChildren(...found.map(([group, candidates]) => {
    const article = el("article");
    article.style.minHeight = `${Math.max(260, 130 + 46 * candidates.length)}px`;
    waiting.set(article, [group, candidates]);
    near.observe(article);
    return article;
  }));
  const total = data.groups.reduce((sum, group) => sum + group.candidates.length, 0);
  const candidates = found.reduce((sum, [, own]) => sum + own.length, 0);
  const of = (part, all, what) => `${part === all ? "" : `${part.toLocaleString("en")} of `}${all.toLocaleString("en")} ${what}`;
  $("count").textContent = `${of(found.length, data.groups.length, "prompts")}, ${of(candidates, total, "candidates")}`;
  $("step-name").textContent = filters.step ?? "all";
  for (const { mark } of drawn) mark(filters.step);
  remember(filters);
}

// The filters stand in the address behind #, so that a view can be kept as a bookmark.
function remember(filters) {
  const words = Object.entries({ ...filters, find: $("find").value }).filter(([, value]) => value != null && value !== "");
  history.replaceState(null, "", `#${new URLSearchParams(words)}`);
}

function recall() {
  const words = new URLSearchParams(location.hash.slice(1));
  for (const id of FILTERS) $(id).value = words.get(id) ?? "";
  for (const id of FILTERS) if ($(id).selectedIndex === -1) $(id).value = ""; // no such choice in this run
  $("step").value = data.written.indexOf(Number(words.get("step") ?? NaN)) + 1;
  show();
}

document.title = `${data.run} – gallery`;
$("run").textContent = data.run;
$("notes").textContent = data.notes.join("; ");
$("step").max = data.written.length;
for (const source of data.sources) $("source").append(el("option", { value: `=${source}` }, source));
const drawn = charts(data.curves, data.sources, data.written, (step) => { $("step").value = data.written.indexOf(step) + 1; show(); });
$("curves").append(...drawn.map(({ figure }) => figure));
$("filters").addEventListener("input", show);
$("filters").addEventListener("reset", () => setTimeout(show));
$("filters").addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", recall);
recall();
