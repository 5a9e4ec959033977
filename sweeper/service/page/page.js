"use strict";

const EVERY = 2000; // milliseconds between two looks
const PAGE = 50; // sweeps shown at once
const SHOWN_TRIALS = 50;
const CURVE_TRIALS = 5000;
const ORDER = ["complete", "pruned", "failed", "stopped", "running", "waiting"];
const byId = id => document.getElementById(id);
let token = sessionStorage.getItem("token");
let chosen = null;
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

function drawn(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function number(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "number" ? String(Number(value.toPrecision(5))) : String(value);
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
  button.addEventListener("click", () => { chosen = sweep.sweep; look(); });
  name.append(button, element("div", sweep.sweep));
  const state = element("td", sweep.state);
  if (sweep.waiting) state.append(element("div", sweep.waiting));
  made.append(name, element("td", sweep.owner), state, bar(sweep));
  made.append(element("td", sweep.best ? number(sweep.best.value) : "", "number"));
  return made;
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
  return found.filter(([, one]) => one && one.text);
}

function code(sweep) {
  const at = byId("code");
  if (at.dataset.sweep === sweep.sweep) return; // it never changes, and may be open
  at.dataset.sweep = sweep.sweep;
  at.replaceChildren(...functions(sweep.spec).map(([what, one]) => {
    const made = element("details");
    made.append(element("summary", `${what}: ${one.function} in ${one.file.split("/").pop()}`), element("pre", one.text));
    return made;
  }));
}

function detail(sweep, trials) {
  code(sweep);
  byId("detail").hidden = false;
  byId("detail-title").textContent = `${sweep.name} (${sweep.sweep})`;
  byId("detail-state").textContent = sweep.state + (sweep.reason && !sweep.waiting ? `: ${sweep.reason}` : "");
  byId("detail-wait").textContent = sweep.waiting;
  const links = byId("detail-links");
  links.replaceChildren();
  if (sweep.view) links.append(link("Compare in MLflow", sweep.view), " ");
  const report = element("button", "Report");
  report.type = "button";
  report.addEventListener("click", () => open_report(sweep.sweep));
  links.append(report);
  const best = byId("best");
  best.replaceChildren();
  if (sweep.best) {
    const facts = { trial: sweep.best.trial, ...sweep.best.params, ...sweep.best.metrics };
    for (const [name, value] of Object.entries(facts)) {
      best.append(element("dt", name), element("dd", Array.isArray(value) ? value.join(", ") : number(value)));
    }
  }
  const recent = trials.filter(trial => trial.state !== "waiting").slice(-SHOWN_TRIALS).reverse();
  byId("trials").replaceChildren(...recent.map(trial => {
    const made = element("tr");
    made.append(element("td", trial.number, "number"), element("td", trial.state));
    made.append(element("td", number(trial.value), "number"), element("td", trial.epochs, "number"));
    made.append(element("td", trial.reason));
    return made;
  }));
  curve(sweep, trials);
}

/* The value of every complete trial, and the best value so far, over the trials in the order in which they ended. */
function curve(sweep, trials) {
  const svg = byId("curve");
  const objective = (sweep.spec.objectives || [sweep.spec.objective])[0] || {};
  const down = objective.direction !== "maximize";
  const ended = trials.filter(t => t.state === "complete" && typeof t.value === "number")
    .sort((a, b) => a.ended_at - b.ended_at);
  byId("curve-title").textContent = `Best ${objective.metric || "value"} over ${ended.length} complete trials`;
  svg.replaceChildren();
  if (!ended.length) {
    svg.append(drawn("text", { x: 320, y: 120, "text-anchor": "middle" }, "no trial is complete yet"));
    return;
  }
  const values = ended.map(t => t.value);
  const bests = [];
  for (const value of values) {
    const last = bests.length ? bests[bests.length - 1] : value;
    bests.push(down ? Math.min(last, value) : Math.max(last, value));
  }
  const sorted = [...values].sort((a, b) => a - b);
  const cut = Math.floor((sorted.length - 1) * 0.9); // the worst tenth would squeeze the rest
  let low = down ? sorted[0] : sorted[sorted.length - 1 - cut];
  let high = down ? sorted[cut] : sorted[sorted.length - 1];
  low = Math.min(low, ...bests); high = Math.max(high, ...bests);
  if (low === high) { low -= 1; high += 1; }
  const x = i => 60 + 560 * (ended.length > 1 ? i / (ended.length - 1) : 0.5);
  const y = v => 200 - 180 * Math.max(0, Math.min(1, (v - low) / (high - low)));
  for (const value of [low, (low + high) / 2, high]) {
    svg.append(drawn("line", { class: "axis", x1: 60, x2: 620, y1: y(value), y2: y(value) }));
    svg.append(drawn("text", { x: 54, y: y(value) + 4, "text-anchor": "end" }, number(value)));
  }
  svg.append(drawn("text", { x: 60, y: 225 }, "1"));
  svg.append(drawn("text", { x: 620, y: 225, "text-anchor": "end" }, `${ended.length} trials`));
  values.forEach((value, i) => {
    if (value >= low && value <= high) svg.append(drawn("circle", { class: "point", cx: x(i), cy: y(value), r: 2.5 }));
  });
  let path = `M ${x(0)} ${y(bests[0])}`;
  for (let i = 1; i < bests.length; i++) path += ` H ${x(i)} V ${y(bests[i])}`;
  svg.append(drawn("path", { class: "line", d: path }));
  if (bests.length === 1) svg.append(drawn("circle", { class: "running", cx: x(0), cy: y(bests[0]), r: 4 }));
}

async function trials_of(sweep) {
  const found = [];
  while (found.length < CURVE_TRIALS) {
    const page = await get(`/sweeps/${sweep}/trials?limit=1000&offset=${found.length}`);
    found.push(...page.trials);
    if (!page.trials.length || found.length >= page.total) break;
  }
  return found;
}

function say(text) {
  byId("problem").textContent = text || "";
  byId("problem").hidden = !text;
}

async function look() {
  const mine = ++turn;
  clearTimeout(timer);
  try {
    const list = await get(`/sweeps?limit=${shown}`);
    if (chosen === null && list.sweeps.length) chosen = list.sweeps[0].sweep;
    const trials = chosen === null ? [] : await trials_of(chosen);
    const sweep = list.sweeps.find(s => s.sweep === chosen) || (chosen && await get(`/sweeps/${chosen}`));
    if (mine !== turn) return;
    byId("sweeps").replaceChildren(...list.sweeps.map(row));
    byId("none").hidden = list.total > 0;
    byId("more").hidden = list.total <= list.sweeps.length || shown >= 1000;
    if (sweep) detail(sweep, trials);
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
  token = chosen = null;
  byId("who").textContent = "";
  byId("sweeps").replaceChildren();
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
byId("leave").addEventListener("click", () => leave(""));
byId("more").addEventListener("click", () => { shown = Math.min(1000, shown + PAGE); look(); });
if (token) enter(); else leave("");
