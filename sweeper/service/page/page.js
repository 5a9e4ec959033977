"use strict";

const EVERY = 2000; // milliseconds between two looks
const PAGE = 50; // sweeps shown at once
const SHOWN_TRIALS = 50;
const MOST_ABOVE = 5; // as many colours as there are
const ORDER = ["complete", "pruned", "failed", "stopped", "running", "waiting"];
const byId = id => document.getElementById(id);
let token = sessionStorage.getItem("token");
const asked = new URLSearchParams(location.search);
let chosen = asked.get("sweep");
let above = new Set(asked.getAll("with")); // the sweeps that are drawn above it
let summaries = new Map(); // by sweep and picture: of which state, and the server's answer
let shown = PAGE;
let timer = null;
let turn = 0; // answers of an earlier turn are not drawn

class Refused extends Error {}

async function get(path) {
  const answer = await fetch("api/v1" + path, { headers: { Authorization: "Bearer " + token } });
  const body = await answer.json().catch(() => ({ detail: answer.statusText }));
  if (answer.status === 401 || answer.status === 429) throw new Refused(body.detail);
  if (!answer.ok) throw new Error(body.detail);
  return body;
}

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

/* Draw a part of the page again where what it shows has changed; the focus stays where it was. */
function redraw(node, shows, make) {
  const key = JSON.stringify(shows);
  if (node.drawnFrom === key) return;
  node.drawnFrom = key;
  const focused = node.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  node.replaceChildren(...make());
  if (focused) node.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

function bar(sweep) {
  const total = Math.max(1, sweep.requested);
  const words = ORDER.filter(state => sweep.counts[state]).map(state => `${sweep.counts[state]} ${state}`).join(", ");
  const svg = drawn("svg", { viewBox: "0 0 160 10", preserveAspectRatio: "none", role: "img", "aria-label": words });
  svg.append(drawn("rect", { class: "bar", width: 160, height: 10 }));
  let x = 0;
  for (const state of ORDER.slice(0, 5)) {
    const width = 160 * (sweep.counts[state] || 0) / total;
    svg.append(drawn("rect", { class: state, x, width, height: 10 }));
    x += width;
  }
  const cell = element("td");
  cell.append(svg, element("div", words));
  return cell;
}

function row(sweep) {
  const made = element("tr", null, sweep.sweep === chosen ? "chosen" : "");
  const name = element("td");
  const button = element("button", sweep.name, "plain");
  button.type = "button";
  button.dataset.key = `show ${sweep.sweep}`;
  button.setAttribute("aria-pressed", sweep.sweep === chosen);
  button.addEventListener("click", () => { above.delete(sweep.sweep); choose(sweep.sweep); });
  name.append(button, element("div", sweep.sweep));
  const state = element("td", sweep.state);
  if (sweep.waiting) state.append(element("div", sweep.waiting));
  made.append(name, element("td", sweep.owner), state, bar(sweep));
  made.append(element("td", sweep.best ? number(sweep.best.value) : "", "number"), mark(sweep));
  return made;
}

/* The box that draws a sweep above the one that is shown. */
function mark(sweep) {
  const cell = element("td"), box = element("input");
  box.type = "checkbox";
  box.checked = above.has(sweep.sweep);
  box.disabled = sweep.sweep === chosen || (!box.checked && above.size >= MOST_ABOVE);
  box.dataset.key = `above ${sweep.sweep}`;
  box.setAttribute("aria-label", `Draw ${sweep.name} above`);
  box.addEventListener("change", () => {
    if (box.checked) above.add(sweep.sweep); else above.delete(sweep.sweep);
    choose(chosen);
  });
  cell.append(box);
  return cell;
}

/* Show a sweep; the address says which, so that the page can be opened there again. */
function choose(sweep) {
  chosen = sweep;
  const query = new URLSearchParams([["sweep", chosen], ...[...above].map(one => ["with", one])]);
  window.history.replaceState(null, "", `?${query}`);
  look();
}

function link(text, href) {
  const made = element("a", text);
  made.href = href;
  made.rel = "noopener";
  return made;
}

async function open_report(sweep) {
  const answer = await fetch(`api/v1/sweeps/${sweep}/report`, { headers: { Authorization: "Bearer " + token } });
  if (!answer.ok) return say((await answer.json()).detail);
  window.open(URL.createObjectURL(await answer.blob()), "_blank", "noopener");
}

/* The functions of the user's own that a sweep runs, with the text of their files. */
function functions(spec) {
  const found = [["Model", spec.model], ["Objective", (spec.objective || {}).function]];
  found.push(["Sampler", (spec.search || {}).own_sampler]);
  for (const metric of spec.metrics || []) found.push(["Metric", metric]);
  const space = spec.space || {};
  if (space.text) found.push(["Space", { function: space.name, file: space.function.replace(/:[^:]*$/, ""), text: space.text }]);
  return found.filter(([, one]) => one && one.text);
}

/* Show them; lists of sweeps come without their files. */
async function code(sweep) {
  const at = byId("code");
  if (at.dataset.sweep === sweep.sweep) return; // it never changes, and may be open
  at.replaceChildren();
  const spec = sweep.spec || (await get(`/sweeps/${sweep.sweep}`)).spec;
  if (chosen !== sweep.sweep) return;
  at.dataset.sweep = sweep.sweep;
  at.replaceChildren(...functions(spec).map(([what, one]) => {
    const made = element("details");
    made.append(element("summary", `${what}: ${one.function} in ${one.file.split("/").pop()}`), element("pre", one.text));
    return made;
  }));
}

function detail(sweep, trials) {
  byId("detail").hidden = false;
  byId("detail-title").textContent = `${sweep.name} (${sweep.sweep})`;
  byId("detail-state").textContent = sweep.state + (sweep.reason && !sweep.waiting ? `: ${sweep.reason}` : "");
  byId("detail-wait").textContent = sweep.waiting;
  redraw(byId("detail-links"), [sweep.view, sweep.sweep], () => {
    const report = element("button", "Report");
    report.type = "button";
    report.dataset.key = "report";
    report.addEventListener("click", () => open_report(sweep.sweep));
    return sweep.view ? [link("Compare in MLflow", sweep.view), " ", report] : [report];
  });
  const facts = sweep.best ? { trial: sweep.best.trial, ...sweep.best.params, ...sweep.best.metrics } : {};
  redraw(byId("best"), facts, () => Object.entries(facts).flatMap(([name, value]) =>
    [element("dt", name), element("dd", Array.isArray(value) ? value.join(", ") : number(value))]));
  const recent = trials.filter(trial => trial.state !== "waiting").reverse();
  redraw(byId("trials"), recent, () => recent.map(trial => {
    const made = element("tr");
    made.append(element("td", trial.number, "number"), element("td", trial.state));
    made.append(element("td", number(trial.value), "number"), element("td", trial.epochs, "number"));
    made.append(element("td", trial.reason));
    return made;
  }));
}

/* The pictures of a sweep, in figures that stay where they are; the `others` are drawn above it. */
function pictures(sweep, others) {
  for (const [name, draw] of Object.entries(PICTURES)) {
    const figure = figure_of(name);
    const own = summaries.get(`${sweep.sweep} ${name}`);
    figure.hidden = !own?.summary;
    if (figure.hidden) continue;
    const beside = ABOVE.includes(name) ? others.map(s => summaries.get(`${s.sweep} ${name}`)).filter(s => s?.summary) : [];
    const fitting = beside.filter(s => s.summary.metric === own.summary.metric);
    figure.hidden = name === "finals" && !own.summary.finalists.length;
    redraw(figure, [own.summary, ...fitting.map(s => [s.name, s.summary])], () => {
      const picture = draw(own, fitting);
      const title = element("h3", own.summary.title), caption = element("figcaption", own.summary.caption);
      if (!picture) return [title, caption];
      const svg = drawn("svg", { role: "img", viewBox: `0 0 ${WIDE} ${picture.height}` });
      const words = [own.summary.alt, ...fitting.map(s => `Above it ${s.name}: ${s.summary.alt}`)].join(" ");
      svg.setAttribute("aria-label", words);
      svg.append(...picture.parts);
      return own.summary.verdict ? [title, element("p", own.summary.verdict), svg, caption] : [title, svg, caption];
    });
  }
  const { summary, problem } = summaries.get(`${sweep.sweep} history`) || {};
  const apart = others.filter(s => summaries.get(`${s.sweep} history`)?.summary?.metric !== summary?.metric);
  const lacks = apart.map(s => s.name).join(", ");
  byId("apart").textContent = problem || (lacks && `Not drawn above, for the objective is another: ${lacks}`);
  byId("apart").hidden = !byId("apart").textContent;
}

function figure_of(name) {
  let figure = byId(`picture-${name}`);
  if (!figure) {
    figure = element("figure");
    figure.id = `picture-${name}`;
    byId("pictures").append(figure);
  }
  return figure;
}

/* Ask for the summaries of a sweep that may have changed since they were last asked for. */
async function summarise(sweep, names) {
  const { complete, pruned, running } = sweep.counts;
  const state = JSON.stringify([sweep.state, complete, pruned, Boolean(sweep.summary.finals)]);
  await Promise.all(names.map(async name => {
    const key = `${sweep.sweep} ${name}`, known = summaries.get(key);
    const moves = name === "curves" && !complete && running;
    if (known && known.state === state && !moves) return;
    const told = { state, name: sweep.name };
    try {
      told.summary = await get(`/sweeps/${sweep.sweep}/summary/${name}`);
    } catch (error) {
      if (error instanceof Refused || error instanceof TypeError) throw error;
      told.problem = error.message; // asked again when the sweep has changed
    }
    summaries.set(key, told);
  }));
}

/* The trials that began last. */
async function latest(sweep) {
  const begun = sweep.requested - (sweep.counts.waiting || 0);
  const page = await get(`/sweeps/${sweep.sweep}/trials?limit=${SHOWN_TRIALS}&offset=${Math.max(0, begun - SHOWN_TRIALS)}`);
  return page.trials;
}

function say(text) {
  byId("problem").textContent = text || "";
  byId("problem").hidden = !text;
}

async function look() {
  const mine = ++turn;
  clearTimeout(timer);
  try {
    const list = await get(`/sweeps?limit=${shown}&spec=false`);
    if (chosen === null && list.sweeps.length) chosen = list.sweeps[0].sweep;
    const find = async id => list.sweeps.find(s => s.sweep === id) || get(`/sweeps/${id}`);
    const sweep = chosen === null ? null : await find(chosen);
    const others = await Promise.all([...above].filter(id => id !== chosen).slice(0, MOST_ABOVE).map(find));
    const trials = sweep ? await latest(sweep) : [];
    if (mine !== turn) return;
    redraw(byId("sweeps"), [list.sweeps, chosen, [...above]], () => list.sweeps.map(row));
    byId("none").hidden = list.total > 0;
    byId("above").hidden = list.total < 2;
    byId("more").hidden = list.total <= list.sweeps.length || shown >= 1000;
    if (sweep) {
      detail(sweep, trials);
      await Promise.all([code(sweep), summarise(sweep, Object.keys(PICTURES)), ...others.map(s => summarise(s, ABOVE))]);
      if (mine !== turn) return;
      pictures(sweep, others);
    }
    say("");
  } catch (error) {
    if (mine !== turn) return;
    if (error instanceof Refused) return leave(error.message);
    say(error instanceof TypeError ? "The server does not answer. Trying again." : error.message);
  }
  timer = setTimeout(look, document.hidden ? 5 * EVERY : EVERY);
}

async function enter() {
  try {
    const about = await get("/info");
    sessionStorage.setItem("token", token);
    byId("who").textContent = `${about.user} (${about.role}), version ${about.version}`;
    byId("login").hidden = true;
    byId("leave").hidden = byId("main").hidden = false;
    say("");
    await look();
  } catch (error) {
    leave(error.message);
  }
}

function leave(text) {
  turn++;
  clearTimeout(timer);
  sessionStorage.removeItem("token");
  token = null;
  summaries = new Map();
  byId("who").textContent = "";
  redraw(byId("sweeps"), [], () => []);
  redraw(byId("pictures"), turn, () => []);
  byId("detail").hidden = byId("main").hidden = byId("leave").hidden = true;
  byId("login").hidden = false;
  say(text);
}

byId("login").addEventListener("submit", event => {
  event.preventDefault();
  token = byId("token").value.trim();
  byId("token").value = "";
  enter();
});
byId("leave").addEventListener("click", () => {
  chosen = null;
  above = new Set();
  window.history.replaceState(null, "", ".");
  leave("");
});
byId("more").addEventListener("click", () => { shown = Math.min(1000, shown + PAGE); look(); });
if (token) enter(); else leave("");
