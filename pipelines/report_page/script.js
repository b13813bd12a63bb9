"use strict";
// Draws the report from the data in the page. Texts of the corpus and of models go in as text nodes
// only, never as markup.

const runs = JSON.parse(document.getElementById("data").textContent);
const two = runs.length > 1;
const NAMES = ["A", "B"];
const NO_LOSS = new Set(["over_quota"]);
const STAGE_UNITS = { seed: "documents", render: "passages", infer: "calls", parse: "replies" };
const COLOURS = ["#2f7d5b", "#d5813a", "#3f6fb0", "#8b5aa8", "#b5485f", "#7a8c2f", "#2f8f97", "#a0753f"];

// --- Making elements ----------------------------------------------------------------------------

function put(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else if (name === "style") for (const [key, to] of Object.entries(value)) node.style.setProperty(key, to);
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) {
      node.append(child instanceof Node ? child : document.createTextNode(String(child)));
    }
  }
  return node;
}
const h = (tag, attributes, ...children) => put(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) =>
  put(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const whole = (number) => Math.round(number).toLocaleString("en");
const brief = (number) =>
  Math.abs(number) >= 1e5 ? Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(number) : whole(number);
const percent = (share) => (Number.isFinite(share) ? `${(100 * share).toFixed(share > 0 && share < 0.095 ? 1 : 0)} %` : "–");
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);
const unique = (items) => [...new Set(items)];
const mixed = (share) => `color-mix(in srgb, var(--kept) ${Math.round(6 + 46 * share)}%, var(--card))`;

function langName(run, code) {
  return run.languages[code]?.name ?? (code === "" ? "any or other" : code === "?" ? "can't be told" : code);
}

// A text in its own language and direction.
function textOf(text, lang, extra = "") {
  return h("p", { class: `text ${extra}`, dir: "auto", lang: lang || "und" }, text);
}

const tip = document.getElementById("tip");
function hint(node, text) {
  const show = (event) => {
    tip.textContent = text;
    tip.hidden = false;
    const box = event.currentTarget.getBoundingClientRect();
    const x = Math.min(box.left + window.scrollX + 12, document.documentElement.clientWidth - tip.offsetWidth - 12);
    tip.style.left = `${Math.max(8, x)}px`;
    tip.style.top = `${box.bottom + window.scrollY + 6}px`;
  };
  const hide = () => { tip.hidden = true; };
  for (const [event, act] of [["mouseenter", show], ["focus", show], ["mouseleave", hide], ["blur", hide]]) {
    node.addEventListener(event, act);
  }
  return node;
}

// --- Parts of the page --------------------------------------------------------------------------

const main = document.getElementById("main");
const contents = [];

function section(id, title, short, note, draw) {
  const bodies = runs.map((run, place) => {
    const body = draw(run, place);
    return body && h("div", { class: "card" }, two && h("h3", null, `${NAMES[place]} · ${run.run}`), body);
  });
  if (!bodies.some(Boolean)) return;
  contents.push([id, short]);
  main.append(h("section", { id, "aria-labelledby": `${id}-title` },
    h("h2", { id: `${id}-title` }, title),
    note && h("p", { class: "note" }, note),
    h("div", { class: two ? "runs two" : "runs" }, bodies.map((body) => body || h("div", { class: "card soft" }, "Nothing to show.")))));
}

function table(heads, rows, options = {}) {
  const body = h("tbody");
  let sorted = null;
  const fill = () => {
    const order = [...rows];
    if (sorted) {
      const [column, down] = sorted;
      const key = (row) => (typeof row[column] === "object" && row[column] !== null ? row[column].sort : row[column]);
      order.sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        return (typeof x === "string" ? String(x).localeCompare(String(y)) : (x ?? 0) - (y ?? 0)) * (down ? -1 : 1);
      });
    }
    body.replaceChildren(...order.map((row) => h("tr", null, row.map((cell, column) => {
      const shown = typeof cell === "object" && cell !== null && "show" in cell ? cell.show : cell;
      if (column === 0) return h("th", { scope: "row" }, shown);
      return h("td", { class: typeof shown === "number" || heads[column].num ? "num" : null },
        typeof shown === "number" ? whole(shown) : shown);
    }))));
  };
  const head = heads.map(({ name, num, fixed }, column) => {
    const cell = h("th", { scope: "col", class: num ? "num" : null });
    if (fixed || options.fixed) return put(cell, null, [name]);
    return put(cell, null, [h("button", { type: "button", on: { click: () => {
      sorted = [column, sorted?.[0] === column ? !sorted[1] : Boolean(num)];
      for (const other of head) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", sorted[1] ? "descending" : "ascending");
      fill();
    } } }, name)]);
  });
  fill();
  return h("div", { class: "scroll" }, h("table", { class: options.class }, h("thead", null, h("tr", null, head)), body));
}

function keys(pairs) {
  return h("ul", { class: "keys" }, pairs.map(([colour, name]) => h("li", null, h("i", { style: { background: colour } }), name)));
}

// --- Header -------------------------------------------------------------------------------------

function totals(run) {
  const calls = run.stages.find((stage) => stage.name === "infer")?.num_in ?? 0;
  const models = Object.values(run.models);
  const of = (key) => sum(models.map((model) => model[key] ?? 0));
  const priced = models.some((model) => "cost" in model);
  return {
    examples: run.examples, calls, gpu: of("gpu_hours"), tokens: of("tokens_in") + of("tokens_out"),
    cost: priced ? of("cost") : null, reused: of("reused"),
    good: run.examples + sum(run.stages.map((stage) => (stage.name === "mix" ? sum(Object.values(stage.dropped)) : 0))),
  };
}

function tiles(run) {
  const all = totals(run);
  const made = [
    [whole(run.examples), "examples"],
    [percent(all.good / all.calls), "good, of the calls made"],
    [whole(run.asked.length), run.asked.length === 1 ? "language" : "languages"],
    [brief(all.calls), "calls"],
    all.tokens && [brief(all.tokens), "tokens"],
    all.gpu && [all.gpu.toFixed(2), "GPU-hours"],
    all.cost !== null && [(all.cost / Math.max(1, run.examples)).toPrecision(2), "cost of an example"],
    [brief(run.settings.seconds), "seconds of work"],
  ];
  return h("div", { class: "tiles" }, made.filter(Boolean).map(([number, name]) => h("div", { class: "tile" }, h("b", null, number), h("span", null, name))));
}

function header() {
  const themes = h("button", { type: "button", on: { click: () => {
    const dark = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    document.documentElement.dataset.theme = dark === "dark" ? "light" : "dark";
  } } }, "Light / dark");
  put(document.getElementById("top"), null, [
    h("p", { class: "eyebrow" }, "Mbegu · report of a run"),
    h("h1", null, runs.map((run) => run.run).join("  and  ")),
    runs.map((run, place) => h("div", { class: "run" },
      two && h("h3", null, `${NAMES[place]} · ${run.run}`),
      h("p", { class: "soft" },
        `${run.asked.slice(0, 14).map((code) => langName(run, code)).join(", ")}${run.asked.length > 14 ? ` and ${run.asked.length - 14} more` : ""}`,
        ` · from ${run.settings.corpus} · ${run.settings.engine} ${run.settings.model} · seed ${run.settings.seed}`,
        run.num_rounds > 1 ? ` · ${run.num_rounds} rounds` : ""),
      tiles(run),
      run.warnings.length > 0 && h("div", { class: "warnings" }, h("strong", null, "Not to be missed"),
        h("ul", null, run.warnings.map((line) => h("li", null, line)))))),
  ]);
  return themes;
}

// --- Where the rows went ------------------------------------------------------------------------

function waterfall(run) {
  const stages = run.stages;
  const most = Math.max(1, ...stages.map((stage) => Math.max(stage.num_in, stage.num_out)));
  const slim = two || window.innerWidth < 700;
  const [width, right, row] = slim ? [420, 120, 40] : [760, 150, 40];
  const left = 14 + 7.2 * Math.max(...stages.map(({ name }) => name.length));
  const scale = (number) => ((width - left - right) * number) / most;
  const picture = s("svg", { viewBox: `0 0 ${width} ${stages.length * row}`, role: "img", "aria-label":
    `Rows by stage: ${stages.map((stage) => `${stage.name} ${stage.num_in} in, ${stage.num_out} out`).join("; ")}` });
  stages.forEach((stage, place) => {
    const y = place * row;
    const lost = sum(Object.values(stage.dropped));
    const spare = sum([...NO_LOSS].map((why) => stage.dropped[why] ?? 0));
    const [kept, gone, unneeded] = [scale(stage.num_kept), scale(lost - spare), scale(spare)];
    const end = left + kept + gone + unneeded + 9;
    const reasons = Object.entries(stage.dropped).slice(0, 8).map(([why, number]) => `${why} ${whole(number)}`).join("\n");
    const unit = STAGE_UNITS[stage.name] ?? "pairs";
    const group = s("g", { tabindex: lost ? "0" : null },
      s("text", { x: left - 10, y: y + 19, "text-anchor": "end" }, stage.name),
      s("rect", { x: left, y: y + 4, width: Math.max(1, kept), height: 22, rx: 4, fill: "var(--kept)" }),
      gone > 0 && s("rect", { x: left + kept + 1, y: y + 4, width: Math.max(1.5, gone), height: 22, rx: 3, fill: "var(--lost)" }),
      unneeded > 0 && s("rect", { x: left + kept + gone + 1, y: y + 4, width: Math.max(1.5, unneeded), height: 22, rx: 3, fill: "var(--spare)" }),
      s("text", { x: end, y: y + 15 }, `${whole(stage.num_kept)} of ${whole(stage.num_in)}`),
      s("text", { x: end, y: y + 29, class: "soft" },
        stage.num_out === stage.num_kept ? unit : `${unit} → ${whole(stage.num_out)}`));
    picture.append(lost ? hint(group, `${stage.name} dropped ${whole(lost)} (${percent(lost / stage.num_in)})\n${reasons}`) : group);
  });
  return [picture, keys([["var(--kept)", "kept"], ["var(--lost)", "dropped (point at a bar for the reasons)"], ["var(--spare)", "good, but not needed"]])];
}

function lostByStage(run, slices) {
  const lost = {};
  for (const slice of slices) {
    for (const [stage, reasons] of Object.entries(slice.lost)) {
      for (const [why, number] of Object.entries(reasons)) {
        if (!NO_LOSS.has(why)) lost[stage] = (lost[stage] ?? 0) + number;
      }
    }
  }
  return lost;
}

// Rows that were good, whether they were needed or not.
const good = (slice) => slice.kept + sum(Object.values(slice.lost).map((reasons) => reasons.over_quota ?? 0));

function byLanguage(run) {
  const stages = run.stages.map((stage) => stage.name);
  const colour = (stage) => COLOURS[1 + (stages.indexOf(stage) % (COLOURS.length - 1))];
  const used = new Set();
  const rows = run.asked.map((code) => {
    const mine = run.slices.filter((slice) => slice.lang === code && slice.task);
    const [calls, kept] = [sum(mine.map((slice) => slice.candidates)), sum(mine.map((slice) => slice.kept))];
    const lost = lostByStage(run, mine);
    const rest = sum(mine.map(good));
    const all = Math.max(1, rest + sum(Object.values(lost)));
    const parts = [["var(--kept)", rest, "good"], ...Object.entries(lost).map(([stage, number]) => (used.add(stage), [colour(stage), number, stage]))];
    const bar = h("div", { class: "bar", role: "img", tabindex: "0", "aria-label": parts.map(([, number, name]) => `${name} ${number}`).join(", ") },
      parts.map(([fill, number]) => h("i", { style: { width: `${(100 * number) / all}%`, background: fill } })));
    const language = run.languages[code];
    return [
      { show: [language.name, " ", h("span", { class: "soft", lang: code, dir: "auto" }, language.autonym === language.name ? "" : language.autonym)], sort: language.name },
      calls, kept, { show: percent(rest / all), sort: rest / all },
      { show: hint(bar, parts.map(([, number, name]) => `${name} ${whole(number)}`).join("\n")), sort: rest / all },
    ];
  });
  return [
    table([{ name: "language" }, { name: "calls", num: true }, { name: "examples", num: true }, { name: "good", num: true }, { name: "good, and lost by stage" }], rows),
    keys([["var(--kept)", "good"], ...stages.filter((stage) => used.has(stage)).map((stage) => [colour(stage), `lost in ${stage}`])]),
  ];
}

function yields(run) {
  const slices = run.slices.filter((slice) => slice.task && slice.lang);
  const axes = ["prompt", "task", "model", "lang"];
  const place = h("div");
  const down = h("select", null, ["lang", "task", "model", "prompt"].map((axis) => h("option", { value: axis }, axis === "lang" ? "language" : axis)));
  const across = h("select", null, axes.map((axis) => h("option", { value: axis }, axis === "lang" ? "language" : axis)));
  const named = (axis, value) => (axis === "lang" ? langName(run, value) : value);
  const draw = () => {
    const [rowAxis, columnAxis] = [down.value, across.value];
    const columns = unique(slices.map((slice) => slice[columnAxis])).sort();
    const rows = unique(slices.map((slice) => slice[rowAxis])).sort((a, b) => named(rowAxis, a).localeCompare(named(rowAxis, b)));
    const cell = (mine) => {
      const [calls, rest] = [sum(mine.map((slice) => slice.candidates)), sum(mine.map(good))];
      const share = rest / calls;
      if (!mine.length) return h("td", { class: "soft" }, "·");
      return h("td", { style: { background: mixed(Math.min(1, share)) } },
        percent(share), h("small", null, `${whole(rest)} of ${whole(calls)}`));
    };
    const of = (row, column) => slices.filter((slice) => (row === null || slice[rowAxis] === row) && (column === null || slice[columnAxis] === column));
    place.replaceChildren(h("div", { class: "scroll" }, h("table", { class: "heat" },
      h("thead", null, h("tr", null, h("th", { scope: "col" }, ""), columns.map((column) => h("th", { scope: "col" }, named(columnAxis, column))), h("th", { scope: "col" }, "all"))),
      h("tbody", null, rows.map((row) => h("tr", null, h("th", { scope: "row" }, named(rowAxis, row)), columns.map((column) => cell(of(row, column))), cell(of(row, null)))),
        h("tr", null, h("th", { scope: "row" }, "all"), columns.map((column) => cell(of(null, column))), cell(of(null, null)))))));
  };
  for (const chosen of [down, across]) chosen.addEventListener("change", draw);
  draw();
  return [h("div", { class: "filters" }, h("label", null, "rows", down), h("label", null, "columns", across)), place];
}

// --- Why rows were dropped ----------------------------------------------------------------------

function sampleCard(run, sample) {
  return h("div", { class: "sample" },
    h("span", { class: "tag" }, langName(run, sample.lang)), sample.prompt && h("span", { class: "tag plain" }, sample.prompt),
    [["title", sample.lang], ["query", sample.lang], ["positive", sample.positive_lang], ["text", sample.lang], ["reply", ""], ["passage", sample.positive_lang]]
      .filter(([name]) => sample[name])
      .map(([name, lang]) => [h("span", { class: "label" }, name), textOf(sample[name], lang, "long")]));
}

function reasons(run) {
  const found = [...run.reasons].sort((a, b) => b.num - a.num);
  if (!found.length) return h("p", { class: "soft" }, "No row was dropped.");
  const most = found[0].num;
  return found.map((reason) => {
    const samples = h("div", { class: "samples" });
    const codes = unique(reason.samples.map((sample) => sample.lang));
    const chosen = h("select", { "aria-label": "language of the samples" }, h("option", { value: "*" }, "all languages"),
      codes.map((code) => h("option", { value: code }, `${langName(run, code)} · ${whole(reason.by_lang[code] ?? 0)} dropped`)));
    const fill = () => samples.replaceChildren(...reason.samples
      .filter((sample) => chosen.value === "*" || sample.lang === chosen.value).slice(0, 24).map((sample) => sampleCard(run, sample)));
    chosen.addEventListener("change", fill);
    const details = h("details", null,
      h("summary", null, h("code", null, `${reason.stage} · ${reason.reason}`),
        h("div", { class: "bar" }, h("i", { style: { width: `${(100 * reason.num) / most}%`, background: NO_LOSS.has(reason.reason) ? "var(--spare)" : "var(--lost)" } })),
        h("span", { class: "num" }, whole(reason.num))),
      codes.length > 1 && h("div", { class: "filters" }, h("label", null, "samples in", chosen)), samples);
    details.addEventListener("toggle", () => { if (details.open && !samples.childNodes.length) fill(); });
    return details;
  });
}

function duplicates(run) {
  const kinds = run.reasons.filter(({ stage, reason }) => stage === "dedupe" || reason.includes("duplicate"));
  if (!kinds.length) return null;
  const codes = unique(kinds.flatMap(({ by_lang }) => Object.keys(by_lang)));
  return table([{ name: "language" }, ...kinds.map(({ stage, reason }) => ({ name: `${stage} · ${reason}`, num: true }))],
    codes.map((code) => [langName(run, code), ...kinds.map(({ by_lang }) => by_lang[code] ?? 0)]));
}

// --- Distributions ------------------------------------------------------------------------------

function histogram(series, { first, last, label, tick, mark = null, what }) {
  const [width, height, bottom] = [340, 130, 20];
  const count = last - first + 1;
  const shares = series.map(({ bins }) => {
    const all = Math.max(1, sum(Object.values(bins)));
    return Array.from({ length: count }, (_, place) => {
      const number = first + place;
      return sum(Object.entries(bins).filter(([bin]) => {
        const at = Math.max(first, Math.min(last, Number(bin)));
        return at === number;
      }).map(([, many]) => many)) / all;
    });
  });
  const most = Math.max(1e-9, ...shares.flat());
  const x = (place) => (width * place) / count;
  const y = (share) => (height - bottom - 4) * (1 - share / most) + 4;
  const picture = s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${what}: ${series.map(({ name, bins }) => `${name}, ${sum(Object.values(bins))} values`).join("; ")}` });
  shares.forEach((mine, which) => {
    const line = mine.map((share, place) => `${x(place)},${y(share)} ${x(place + 1)},${y(share)}`).join(" ");
    picture.append(s("polygon", { points: `0,${height - bottom} ${line} ${width},${height - bottom}`, fill: series[which].colour, "fill-opacity": ".18", stroke: series[which].colour, "stroke-width": "1.6", "stroke-linejoin": "round" }));
  });
  picture.append(s("line", { x1: 0, x2: width, y1: height - bottom, y2: height - bottom, class: "axis" }));
  if (mark !== null) {
    const at = x((mark.at - first) + 0.5);
    picture.append(s("line", { x1: at, x2: at, y1: 0, y2: height - bottom, stroke: "var(--ink)", "stroke-dasharray": "4 3" }), s("text", { x: at + 5, y: 11, class: "soft" }, mark.name));
  }
  for (let place = 0; place < count; place += tick) {
    picture.append(s("text", { x: x(place + 0.5), y: height - 5, "text-anchor": "middle", class: "soft" }, label(first + place)));
  }
  return picture;
}

const TEXTS = [["query", "var(--lost)"], ["positive", "var(--kept)"], ["negative", "var(--two)"]];

function lengths(run) {
  const codes = Object.keys(run.lengths).sort((a, b) => langName(run, a).localeCompare(langName(run, b)));
  return [
    h("div", { class: "small" }, codes.map((code) => h("figure", { style: { margin: 0 } }, h("h3", null, langName(run, code)),
      histogram(TEXTS.filter(([name]) => run.lengths[code][name]).map(([name, colour]) => ({ name, colour, bins: run.lengths[code][name] })),
        { first: 2, last: 23, tick: 4, what: `Lengths in ${langName(run, code)}`, label: (bin) => brief(2 ** (bin / 2)) })))),
    keys(TEXTS.map(([name, colour]) => [colour, name])),
  ];
}

const tenth = (bin) => (bin * 0.05).toFixed(1);

function scores(run) {
  if (!Object.keys(run.scores.positive).length) return null;
  const ratios = {};
  for (const bins of Object.values(run.hardness)) {
    for (const [bin, many] of Object.entries(bins)) ratios[bin] = (ratios[bin] ?? 0) + many;
  }
  const mark = run.max_share && { at: run.max_share / 0.05, name: `${run.max_share} allowed` };
  const grades = Object.entries(run.judged);
  return h("div", { class: "small" },
    h("figure", { style: { margin: 0 } }, h("h3", null, "The teacher's scores"),
      histogram([{ name: "positive", colour: "var(--kept)", bins: run.scores.positive }, { name: "negative", colour: "var(--two)", bins: run.scores.negative }],
        { first: 0, last: 20, tick: 4, label: tenth, what: "Scores" }),
      keys([["var(--kept)", "positive"], ["var(--two)", "negative"]])),
    h("figure", { style: { margin: 0 } }, h("h3", null, "Hardness: negative ÷ positive"),
      histogram([{ name: "negatives", colour: "var(--three)", bins: ratios }], { first: 0, last: 24, tick: 4, label: tenth, mark, what: "Hardness" }),
      keys([["var(--three)", "negatives; to the right is harder"]])),
    grades.map(([name, bins]) => h("figure", { style: { margin: 0 } }, h("h3", null, `The judge's grades: ${name}`),
      histogram([{ name, colour: "var(--kept)", bins }], { first: 0, last: 5, tick: 1, label: String, what: `Grades for ${name}` }))));
}

function hardness(run) {
  const codes = Object.keys(run.hardness);
  if (!codes.length) return null;
  const quantile = (bins, share) => {
    const all = sum(Object.values(bins));
    let seen = 0;
    for (const bin of Object.keys(bins).map(Number).sort((a, b) => a - b)) {
      seen += bins[bin];
      if (seen >= share * all) return bin * 0.05;
    }
    return 0;
  };
  const rows = codes.map((code) => {
    const mining = run.mining[code];
    const median = quantile(run.hardness[code], 0.5);
    return [langName(run, code), sum(Object.values(run.hardness[code])), { show: median.toFixed(2), sort: median },
      { show: quantile(run.hardness[code], 0.9).toFixed(2), sort: quantile(run.hardness[code], 0.9) },
      mining ? { show: percent(mining.served / mining.asked), sort: mining.served / mining.asked } : { show: "–", sort: 0 }];
  });
  return table([{ name: "language" }, { name: "negatives", num: true }, { name: "median hardness", num: true }, { name: "hardest tenth from", num: true }, { name: "queries served", num: true }], rows);
}

function languageMap(run) {
  const others = unique(run.map.flatMap(({ came }) => Object.keys(came))).filter((code) => code && code !== "?").sort();
  const columns = ["", ...others, "?"];
  return h("div", { class: "scroll" }, h("table", { class: "heat" },
    h("thead", null, h("tr", null, h("th", { scope: "col" }, "asked for"),
      columns.map((code) => h("th", { scope: "col" }, code === "" ? "came so" : code === "?" ? "too short or unknown to tell" : `came in ${langName(run, code)}`)))),
    h("tbody", null, run.map.map(({ lang, came }) => {
      const all = Math.max(1e-9, sum(Object.values(came)));
      return h("tr", null, h("th", { scope: "row" }, langName(run, lang)), columns.map((code) => {
        const number = came[code] ?? 0;
        if (!number) return h("td", { class: "soft" }, "·");
        const strong = code === "" ? "--kept" : code === "?" ? "--soft" : "--lost";
        return h("td", { style: { background: `color-mix(in srgb, var(${strong}) ${Math.round(6 + (46 * number) / all)}%, var(--card))` } },
          percent(number / all), h("small", null, whole(number)));
      }));
    }))));
}

function costs(run) {
  const all = totals(run);
  if (!all.tokens && !all.gpu && all.cost === null && Object.keys(run.models).length < 2) return null;
  const each = (model, number) => (model.examples ? (number / model.examples).toPrecision(3) : "–");
  return table([{ name: "model" }, { name: "calls", num: true }, { name: "answered by kept replies", num: true }, { name: "tokens in", num: true }, { name: "tokens out", num: true },
    { name: "GPU-hours", num: true }, { name: "cost", num: true }, { name: "examples", num: true }, { name: "tokens an example", num: true }, { name: "cost an example", num: true }],
  Object.entries(run.models).map(([name, model]) => [name, model.calls, model.reused, model.tokens_in, model.tokens_out,
    { show: model.gpu_hours.toFixed(3), sort: model.gpu_hours }, { show: model.cost === undefined ? "–" : model.cost.toFixed(2), sort: model.cost ?? 0 },
    model.examples, { show: model.examples ? whole((model.tokens_in + model.tokens_out) / model.examples) : "–", sort: 0 },
    { show: model.cost === undefined ? "–" : each(model, model.cost), sort: 0 }]));
}

// --- Examples -----------------------------------------------------------------------------------

const PAGE = 8;

function exampleCard(row, run, place) {
  const tags = [langName(run, row.lang), row.positive_lang !== row.lang && `→ ${langName(run, row.positive_lang)}`].filter(Boolean);
  return h("article", { class: "card example" },
    h("div", null, two && h("span", { class: "tag" }, NAMES[place]), tags.map((tag) => h("span", { class: "tag" }, tag)),
      [row.task, row.prompt, row.strategy, row.model].map((tag) => h("span", { class: "tag plain" }, tag)),
      row.unverified.length > 0 && h("span", { class: "tag plain" }, `language unverified: ${row.unverified.join(", ")}`),
      Object.entries(row.grades).map(([name, grade]) => h("span", { class: "tag plain" }, `${name} ${grade}`))),
    textOf(row.query, row.lang, "query"),
    h("span", { class: "label" }, `positive${row.score === null ? "" : ` · ${row.score}`}`), textOf(row.positive, row.positive_lang, "long"),
    row.negatives.length > 0 && h("details", null,
      h("summary", { class: "plain" }, h("code", null, `${row.num_negatives} negatives, the hardest ${row.negatives[0][1]}`)),
      h("ol", null, row.negatives.map(([text, score]) => h("li", null, textOf(text, row.positive_lang), h("span", { class: "label" }, String(score)))))),
    h("p", { class: "soft", dir: "auto" }, `${row.instruction} · ${row.source} · ${row.license}`));
}

function browser() {
  const rows = runs.flatMap((run, place) => run.rows.map((row) => ({ row, run, place })));
  if (!rows.length) return;
  contents.push(["examples", "Examples"]);
  const list = h("div", { id: "list", "aria-live": "polite" });
  const found = h("span", { class: "soft", id: "found" });
  let page = 0;
  const choice = (name, of, show = (value) => value) => {
    const values = unique(rows.map(of)).sort((a, b) => show(a).localeCompare(show(b)));
    const select = h("select", { id: `filter-${name}`, on: { change: () => { page = 0; draw(); } } }, h("option", { value: "*" }, "all"), values.map((value) => h("option", { value }, show(value))));
    return { select, of, label: values.length > 1 && h("label", null, name, select) };
  };
  const choices = [
    choice("run", ({ place }) => String(place), (value) => runs[Number(value)].run),
    choice("language", ({ row }) => row.lang, (value) => langName(runs.find((run) => run.languages[value]) ?? runs[0], value)),
    choice("task", ({ row }) => row.task), choice("prompt", ({ row }) => row.prompt),
    choice("strategy", ({ row }) => row.strategy), choice("model", ({ row }) => row.model),
  ];
  const search = h("input", { type: "search", id: "search", dir: "auto", placeholder: "in queries and positives", on: { input: () => { page = 0; draw(); } } });
  const turn = (by) => () => { page += by; draw(); document.getElementById("examples").scrollIntoView(); };
  const back = h("button", { type: "button", on: { click: turn(-1) } }, "← Before");
  const next = h("button", { type: "button", on: { click: turn(1) } }, "More →");
  const where = h("span", { class: "soft" });
  const fold = (text) => text.normalize("NFKC").toLocaleLowerCase();
  function draw() {
    const wanted = fold(search.value.trim());
    const chosen = rows.filter((item) => choices.every(({ select, of }) => select.value === "*" || of(item) === select.value)
      && (!wanted || fold(`${item.row.query}\n${item.row.positive}`).includes(wanted)));
    const pages = Math.max(1, Math.ceil(chosen.length / PAGE));
    page = Math.max(0, Math.min(page, pages - 1));
    list.replaceChildren(...chosen.slice(page * PAGE, (page + 1) * PAGE).map(({ row, run, place }) => exampleCard(row, run, place)));
    found.textContent = `${whole(chosen.length)} of ${whole(rows.length)} shown here (${runs.map((run) => whole(run.examples)).join(" and ")} in all)`;
    where.textContent = `${page + 1} of ${pages}`;
    back.disabled = page === 0;
    next.disabled = page === pages - 1;
  }
  main.append(h("section", { id: "examples", "aria-labelledby": "examples-title" }, h("h2", { id: "examples-title" }, "Examples"),
    h("p", { class: "note" }, "Some of every language, prompt and strategy. ", found),
    h("div", { class: "filters" }, choices.map(({ label }) => label), h("label", { class: "grow" }, "search", search)),
    list, h("div", { class: "pager" }, back, where, next)));
  draw();
}

// --- All of it ----------------------------------------------------------------------------------

const themes = header();
section("rows", "Where the rows went", "Rows", "Each bar is what came into a stage: what it kept, and what it dropped. A call may give several pairs.", waterfall);
section("languages", "By language", "Languages", "Good rows passed every check, whether the quota had room for them or not.", byLanguage);
section("yields", "Yields", "Yields", "Good examples of the calls made, by any two of language, task, model and prompt.", yields);
section("reasons", "Why rows were dropped", "Dropped", "Open a reason for samples. over_quota are good rows that were not needed.", reasons);
section("map", "Languages asked for and come", "Asked and come", "What language the queries plainly came in, by a look at some of those kept and of those dropped for their language, scaled up to their number.", languageMap);
section("scores", "Scores", "Scores", `Of ${runs.map((run) => whole(run.num_looked_at)).join(" and ")} examples.`, scores);
section("hardness", "Hardness by language", "Hardness", "A negative's score as a share of its positive's: near 1 it is hard, far below it teaches little. Queries served found enough negatives.", hardness);
section("lengths", "Lengths", "Lengths", "Characters, on a logarithmic scale.", lengths);
section("duplicates", "Duplicates removed", "Duplicates", null, duplicates);
section("costs", "Cost", "Cost", "By model; an example's share is of all that its model was asked.", costs);
browser();
document.getElementById("contents").append(h("ul", null, contents.map(([id, title]) => h("li", null, h("a", { href: `#${id}` }, title))), h("li", null, themes)));
document.body.append(h("footer", null, "Made by Mbegu from this run's manifests and samples of its rows. Nothing on this page is loaded from elsewhere."));
