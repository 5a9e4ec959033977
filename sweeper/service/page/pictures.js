"use strict";

/* The pictures of the page, drawn as SVG from the server's summaries. Each function gives the elements of one picture;
   `others` are the same summaries of sweeps that stand above it. */

const WIDE = 640, LEFT = 62, RIGHT = 12;

function drawn(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function told(shape, text) {
  shape.append(drawn("title", {}, text));
  return shape;
}

function number(value, digits = 4) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "number") return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(Math.max(0, digits - 2)).replace(/\.?0+e/, "e");
  return String(Number(value.toPrecision(digits)));
}

function ticks(low, high, log, wanted = 4) {
  if (log) {
    const found = [];
    const subs = high / low > 300 ? [1] : high / low > 30 ? [1, 3] : [1, 2, 5];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      for (const sub of subs) found.push(Number(`${sub}e${power}`));
    }
    const inside = found.filter(tick => tick >= low * 0.999 && tick <= high * 1.001);
    if (inside.length >= 2) return inside.filter((_, i) => i % Math.ceil(inside.length / 6) === 0);
  }
  const raw = (high - low) / wanted;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map(m => m * unit).find(s => s >= raw);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

function scale(low, high, log, from, to) {
  const place = v => log ? Math.log(v) : v;
  const span = place(high) - place(low) || 1;
  return v => Number((from + (to - from) * (place(v) - place(low)) / span).toFixed(2));
}

/* The frames of several sweeps as one. */
function joined(frames) {
  const known = frames.filter(Boolean);
  if (!known.length) return null;
  const low = Math.min(...known.map(f => f.low)), high = Math.max(...known.map(f => f.high));
  return { low, high, log: low > 0 && known.some(f => f.log) || known.length > 1 && low > 0 && high / low > 10 };
}

/* The axis of the objective with its rules; gives the scale. */
function values(parts, frame, top, bottom, left = LEFT, right = WIDE - RIGHT, names = true) {
  const pad = frame.log ? (frame.high / frame.low) ** 0.04 : (frame.high - frame.low) * 0.04;
  const low = frame.log ? frame.low / pad : frame.low - pad, high = frame.log ? frame.high * pad : frame.high + pad;
  const y = scale(low, high, frame.log, bottom, top);
  for (const tick of ticks(low, high, frame.log)) {
    parts.push(drawn("line", { class: "axis", x1: left, x2: right, y1: y(tick), y2: y(tick) }));
    if (names) parts.push(drawn("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, number(tick)));
  }
  const inside = v => v !== null && v >= low && v <= high;
  return { y, inside, clamped: v => y(Math.max(low, Math.min(high, v))) };
}

function steps(pairs, x, y, last) {
  let path = `M ${x(pairs[0][0])} ${y(pairs[0][1])}`;
  for (const [trial, value] of pairs.slice(1)) path += ` H ${x(trial)} V ${y(value)}`;
  return `${path} H ${x(last)}`;
}

/* A line through the points that have a value, broken where one has none. */
function through(xs, vs, x, y) {
  let path = "", pen = "M";
  xs.forEach((at, i) => {
    if (vs[i] === null) { pen = "M"; return; }
    path += `${pen} ${x(at)} ${y(vs[i])} `;
    pen = "L";
  });
  return path;
}

function legend(parts, entries, y) {
  let x = LEFT;
  for (const [kind, shape, words] of entries) {
    const width = 34 + 7 * words.length;
    if (x + width > WIDE && x > LEFT) { x = LEFT; y += 18; }
    parts.push(shape === "point" ? drawn("circle", { class: kind, cx: x + 9, cy: y - 4, r: 4 })
      : shape === "band" ? drawn("rect", { class: kind, x, y: y - 10, width: 18, height: 11 })
        : drawn("line", { class: kind, x1: x, x2: x + 18, y1: y - 4, y2: y - 4 }));
    parts.push(drawn("text", { x: x + 23, y }, words));
    x += width;
  }
  return y;
}

function draw_history(own, others) {
  const frame = joined([own, ...others].map(s => s.summary.frame));
  if (!frame) return null;
  const several = others.length > 0, parts = [];
  const mine = own.summary, words = mine.words;
  const entries = [["point", "point", words.points], ["line best", "line", several ? own.name : words.best]];
  if (mine.pruned.length) entries.push(["pruned-point", "point", words.pruned]);
  if (mine.beyond.length) entries.push(["beyond-point", "point", words.beyond]);
  others.forEach((s, i) => entries.push([`line other${i}`, "line", s.name]));
  const top = legend(parts, entries, 14) + 12, bottom = top + 200;
  const last = Math.max(1, ...[own, ...others].map(s => s.summary.last));
  const x = scale(0, last, false, LEFT, WIDE - RIGHT);
  const { y, inside, clamped } = values(parts, frame, top, bottom);
  for (const tick of ticks(0, last, false).filter(Number.isInteger)) {
    parts.push(drawn("text", { x: x(tick), y: bottom + 16, "text-anchor": tick ? "middle" : "start" }, tick.toLocaleString("en")));
  }
  parts.push(drawn("text", { x: WIDE - RIGHT, y: bottom + 32, "text-anchor": "end" }, "trial"));
  parts.push(drawn("text", { x: LEFT, y: bottom + 32 }, `${mine.metric}${several ? `, ${words.best}` : ""}`));
  for (const [kind, some] of [["pruned-point", mine.pruned], ["beyond-point", mine.beyond], ["point", mine.points]]) {
    for (const [trial, value] of some) {
      if (inside(value)) {
        const spot = drawn("circle", { class: kind, cx: x(trial), cy: y(value), r: 2.5 });
        parts.push(told(spot, `trial ${trial}: ${number(value)}`));
      }
    }
  }
  others.forEach((s, i) => {
    if (s.summary.best.length) parts.push(drawn("path", { class: `line other${i}`, d: steps(s.summary.best, x, clamped, s.summary.last) }));
  });
  if (mine.best.length) {
    parts.push(told(drawn("path", { class: "line best", d: steps(mine.best, x, clamped, mine.last) }), words.best));
  }
  return { parts, height: bottom + 40 };
}

function draw_curves(own, others) {
  const frame = joined([own, ...others].map(s => s.summary.frame));
  if (!frame) return null;
  const several = others.length > 0, parts = [], mine = own.summary, words = mine.words;
  const entries = [];
  if (mine.epochs.length) entries.push(["band", "band", words.band], ["line median", "line", words.median]);
  if (words.best) entries.push(["line best", "line", several ? `${own.name}: ${words.best}` : words.best]);
  if (mine.train && !several) entries.push(["line train", "line", words.train]);
  others.forEach((s, i) => { if (s.summary.words.best) entries.push([`line other${i}`, "line", `${s.name}: ${s.summary.words.best}`]); });
  const top = legend(parts, entries, 14) + 12, bottom = top + 200;
  const last = Math.max(...[own, ...others].map(s => s.summary.epochs.length ? s.summary.epochs[s.summary.epochs.length - 1] : 1));
  const x = scale(1, Math.max(2, last), false, LEFT, WIDE - RIGHT);
  const { clamped } = values(parts, frame, top, bottom);
  for (const tick of ticks(1, Math.max(2, last), false, 6).filter(Number.isInteger)) {
    parts.push(drawn("text", { x: x(tick), y: bottom + 16, "text-anchor": "middle" }, tick.toLocaleString("en")));
  }
  parts.push(drawn("text", { x: WIDE - RIGHT, y: bottom + 32, "text-anchor": "end" }, "epoch"));
  parts.push(drawn("text", { x: LEFT, y: bottom + 32 }, mine.metric));
  const known = mine.epochs.map((_, i) => i).filter(i => mine.low[i] !== null && mine.high[i] !== null);
  if (known.length > 1) {
    const there = known.map(i => `${x(mine.epochs[i])} ${clamped(mine.high[i])}`);
    const back = known.map(i => `${x(mine.epochs[i])} ${clamped(mine.low[i])}`).reverse();
    parts.push(drawn("path", { class: "band", d: `M ${[...there, ...back].join(" L ")} Z` }));
  }
  parts.push(drawn("path", { class: "line median", d: through(mine.epochs, mine.median, x, clamped) }));
  for (const curve of several ? [] : mine.best.slice(1)) {
    const line = drawn("path", { class: "line good", d: through(curve.epochs, curve.values, x, clamped) });
    parts.push(told(line, `trial ${curve.trial}`));
  }
  if (mine.train && !several) {
    parts.push(drawn("path", { class: "line train", d: through(mine.train.epochs, mine.train.values, x, clamped) }));
  }
  others.forEach((s, i) => {
    const curve = s.summary.best[0];
    if (!curve) return;
    parts.push(drawn("path", { class: `line other${i} thin`, d: through(s.summary.epochs, s.summary.median, x, clamped) }));
    parts.push(drawn("path", { class: `line other${i}`, d: through(curve.epochs, curve.values, x, clamped) }));
  });
  if (mine.best.length) {
    const { trial, epochs, values: vs } = mine.best[0];
    parts.push(told(drawn("path", { class: "line best", d: through(epochs, vs, x, clamped) }), `trial ${trial}`));
    if (vs.length === 1 && vs[0] !== null) parts.push(drawn("circle", { class: "best-point", cx: x(epochs[0]), cy: clamped(vs[0]), r: 4 }));
  }
  return { parts, height: bottom + 40 };
}

function draw_parallel(own) {
  const mine = own.summary, parts = [];
  if (!mine.lines.length) return null;
  const words = mine.words;
  const top = legend(parts, [["line winner", "line", words.winner], ["line top", "line", words.top], ["line rest", "line", words.others]], 14) + 14;
  const bottom = top + 210, count = mine.axes.length;
  const x = i => Number((16 + i * (WIDE - 96) / (count - 1)).toFixed(2));
  const y = height => Number((bottom - height * (bottom - top)).toFixed(2));
  mine.lines.forEach((line, i) => {
    const kind = i === mine.lines.length - 1 ? "winner" : line.rank >= mine.top ? "top" : "rest";
    const d = `M ${[...line.heights, line.rank].map((height, k) => `${x(k)} ${y(height)}`).join(" L ")}`;
    parts.push(told(drawn("path", { class: `line ${kind}`, d }), `trial ${line.trial}: ${number(line.value)}`));
  });
  mine.axes.forEach((axis, k) => {
    parts.push(drawn("line", { class: "upright", x1: x(k), x2: x(k), y1: top - 4, y2: bottom + 4 }));
    for (const [height, text] of axis.marks) {
      parts.push(drawn("text", { class: "halo", x: x(k) + 5, y: y(height) + 4 }, text));
    }
    const name = axis.name.length > 15 && k < count - 1 ? `${axis.name.slice(0, 14)}…` : axis.name;
    const end = k === 0 ? "start" : k === count - 1 ? "end" : "middle";
    const at = k === 0 ? 2 : k === count - 1 ? WIDE - 2 : x(k);
    parts.push(told(drawn("text", { class: "name", x: at, y: bottom + (k % 2 ? 36 : 20), "text-anchor": end }, name), axis.name));
  });
  return { parts, height: bottom + 44 };
}

function draw_slices(own) {
  const mine = own.summary, parts = [];
  if (!mine.slices.length || !mine.frame) return null;
  const columns = 3, gap = 14, high = 138, room = 54;
  const wide = (WIDE - LEFT - RIGHT - gap * (columns - 1)) / columns;
  const top = legend(parts, [["line median", "line", mine.words.median], ["best-point", "point", mine.words.best], ["count", "band", mine.words.count]], 14) + 32;
  mine.slices.forEach((slice, k) => {
    const left = LEFT + (k % columns) * (wide + gap), begins = top + Math.floor(k / columns) * (high + room);
    const ends = begins + high, right = left + wide;
    parts.push(told(drawn("text", { class: "name", x: left, y: begins - 6 }, slice.name), slice.name));
    const { clamped } = values(parts, mine.frame, begins, ends - 28, left, right, k % columns === 0);
    const most = Math.max(...slice.bins.map(bin => bin.count));
    const numeric = slice.low !== null;
    const x = numeric && slice.high > slice.low ? scale(slice.low, slice.high, slice.log, left + 4, right - 4) : null;
    const cell = wide / slice.bins.length;
    const middle = (bin, i) => !x ? left + (i + 0.5) * cell
      : slice.log ? x(Math.sqrt(bin.low * bin.high)) : x((bin.low + bin.high) / 2);
    const half = x ? Math.min(wide / 44, 8) : Math.min(cell * 0.35, 18);
    let path = "";
    slice.bins.forEach((bin, i) => {
      const at = Number(middle(bin, i).toFixed(2)), tall = Math.max(1, 24 * bin.count / most);
      const words = `${bin.label}: ${bin.count.toLocaleString("en")} trials, median ${number(bin.median)}, best ${number(bin.best)}`;
      parts.push(told(drawn("rect", { class: "count", x: at - half, y: ends - tall, width: 2 * half, height: tall }), words));
      if (x) path += `${path ? "L" : "M"} ${at} ${clamped(bin.median)} `;
      else parts.push(drawn("line", { class: "line median", x1: at - half, x2: at + half, y1: clamped(bin.median), y2: clamped(bin.median) }));
      if (bin.best !== null) parts.push(told(drawn("circle", { class: "best-point", cx: at, cy: clamped(bin.best), r: 3 }), words));
      if (!x) {
        const room = Math.floor(cell / 6);
        const short = bin.label.length > room ? `${bin.label.slice(0, Math.max(1, room - 1))}…` : bin.label;
        parts.push(told(drawn("text", { x: at, y: ends + 15, "text-anchor": "middle" }, short), bin.label));
      }
    });
    if (path) parts.push(drawn("path", { class: "line median", d: path }));
    if (x) {
      parts.push(drawn("text", { x: left, y: ends + 15 }, number(slice.low, 3)));
      parts.push(drawn("text", { x: right, y: ends + 15, "text-anchor": "end" }, number(slice.high, 3)));
    }
  });
  return { parts, height: top + Math.ceil(mine.slices.length / columns) * (high + room) - 14 };
}

function draw_finals(own) {
  const mine = own.summary, parts = [];
  if (!mine.finalists.length) return null;
  const every = mine.finalists.flatMap(f => [f.mean, f.low, f.high, ...f.values]).filter(v => v !== null);
  const low = Math.min(...every), high = Math.max(...every), pad = (high - low || Math.abs(high) || 1) * 0.04;
  const left = 150, bottom = 14 + 26 * mine.finalists.length;
  const x = scale(low - pad, high + pad, false, left, WIDE - RIGHT);
  for (const tick of ticks(low - pad, high + pad, false)) {
    parts.push(drawn("line", { class: "axis", x1: x(tick), x2: x(tick), y1: 4, y2: bottom }));
    parts.push(drawn("text", { x: x(tick), y: bottom + 16, "text-anchor": "middle" }, number(tick)));
  }
  parts.push(drawn("text", { x: WIDE - RIGHT, y: bottom + 32, "text-anchor": "end" }, mine.metric));
  mine.finalists.forEach((f, i) => {
    const y = 18 + 26 * i;
    parts.push(drawn("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, `trial ${f.trial} (${f.probability})`));
    for (const value of f.values) parts.push(drawn("circle", { class: "point", cx: x(value), cy: y, r: 2.5 }));
    const kind = f.leads ? "leader" : "finalist";
    if (f.low !== null && f.high !== null) parts.push(drawn("line", { class: kind, x1: x(f.low), x2: x(f.high), y1: y, y2: y }));
    const words = `trial ${f.trial}: ${number(f.mean)}${f.low === null ? "" : ` (${number(f.low)} to ${number(f.high)})`}`;
    parts.push(told(drawn("circle", { class: kind, cx: x(f.mean), cy: y, r: 5 }), words));
  });
  return { parts, height: bottom + 40 };
}

const PICTURES = {
  history: draw_history, curves: draw_curves, parallel: draw_parallel, slices: draw_slices, finals: draw_finals,
};
const ABOVE = ["history", "curves"]; // pictures that show several sweeps above each other
