// Draws what /jobs/{id}/chart answers. Plotly is a global of vendor/plotly-basic.min.js.

const KINDS = [
  { dimensions: 0, variable: "--kind-0", symbol: "circle" },
  { dimensions: 1, variable: "", symbol: "circle" },
  { dimensions: 2, variable: "--kind-two", symbol: "square" },
  { dimensions: 3, variable: "--kind-three", symbol: "diamond" },
];

const PAIRS = { "bits + channels": "triangle-up", "channels + operator": "triangle-down" };

const CONFIG = {
  responsive: true, displaylogo: false,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
};

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function kindColor(point) {
  return color(point.dimensions.length === 1 ? `--kind-${point.dimensions[0]}` : KINDS[point.dimensions.length].variable);
}

function axis(description, { logarithmic }) {
  const share = description.unit === "share";
  const bytes = description.unit === "bytes";
  return {
    title: { text: description.title, standoff: 10, font: { size: 13 } },
    type: logarithmic && !share ? "log" : "linear",
    tickformat: share ? ".1%" : bytes ? "~s" : "~r",
    ticksuffix: bytes ? "B" : "",
    gridcolor: color("--grid"), linecolor: color("--line"), zeroline: false, automargin: true,
    exponentformat: "SI", nticks: 8,
  };
}

function layout({ height, legend }) {
  return {
    height, hovermode: "closest", clickmode: "event",
    dragmode: matchMedia("(pointer: coarse), (max-width: 40rem)").matches ? false : "zoom",  // a finger scrolls the page
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: color("--ink") },
    margin: { l: 20, r: 14, t: 12, b: 20 },
    showlegend: legend,
    legend: { orientation: "h", y: -0.2, x: 0, font: { size: 12 } },
    hoverlabel: { bgcolor: color("--surface"), bordercolor: color("--line"), font: { color: color("--ink"), size: 13 }, align: "left" },
  };
}

function marks(points, name, options) {
  return {
    type: "scatter", mode: "markers", name,
    x: points.map((point) => point.x), y: points.map((point) => point.y),
    text: points.map((point) => point.text), customdata: points.map((point) => point.id),
    hovertemplate: "%{text}<extra></extra>", ...options,
  };
}

// A limit cuts the plane in two; the tinted part is where the axes' limits hold.
function region(data) {
  const shapes = [];
  const annotations = [];
  const tint = { type: "rect", layer: "below", line: { width: 0 }, fillcolor: color("--region"), xref: "x", yref: "y" };
  const edges = { x: ["x domain", 0, 1], y: ["y domain", 0, 1] };
  let limited = false;
  for (const letter of ["x", "y"]) {
    const side = data[letter];
    const other = letter === "x" ? "y" : "x";
    if (side.limit === null) continue;
    limited = true;
    shapes.push({
      type: "line", layer: "below", line: { color: color("--good"), width: 1.5, dash: "dash" },
      [`${letter}ref`]: letter, [`${letter}0`]: side.limit, [`${letter}1`]: side.limit,
      [`${other}ref`]: edges[other][0], [`${other}0`]: 0, [`${other}1`]: 1,
    });
    annotations.push({
      text: side.limit_text, showarrow: false, font: { size: 12, color: color("--good") },
      xref: letter === "x" ? "x" : "x domain", x: letter === "x" ? side.limit : 0,
      yref: letter === "y" ? "y" : "y domain", y: letter === "y" ? side.limit : 1,
      xanchor: "left", yanchor: letter === "y" ? "bottom" : "top",
      xshift: 4,
    });
  }
  return { tint: limited ? tint : null, shapes, annotations };
}

// The tint needs the drawn range, because a limit bounds one side only.
function tinted(element, tint, data) {
  if (!tint) return null;
  const box = { ...tint };
  for (const letter of ["x", "y"]) {
    const drawn = element._fullLayout[`${letter}axis`];
    const [low, high] = drawn.range.map((value) => (drawn.type === "log" ? 10 ** value : value));
    const { limit, best } = data[letter];
    box[`${letter}0`] = limit !== null && best === "high" ? Math.min(Math.max(limit, low), high) : low;
    box[`${letter}1`] = limit !== null && best === "low" ? Math.max(Math.min(limit, high), low) : high;
  }
  return box;
}

// Trials that lose most of the accuracy would squeeze those that matter: unless all are asked for, they are cut off.
const NEAR = 0.12;

function near(data) {
  const share = ["x", "y"].find((letter) => data[letter].unit === "share");
  const shown = [...data.points, ...(data.float ? [data.float] : [])];
  if (!share || shown.length === 0) return {};
  const other = share === "x" ? "y" : "x";
  const top = Math.max(...shown.map((point) => point[share]));
  const marked = [data[share].limit, ...data.marks.map((mark) => mark[share])].filter((value) => value !== null);
  const floor = Math.min(top - NEAR, ...marked.map((value) => value - 0.02));
  if (Math.min(...shown.map((point) => point[share])) >= floor) return {};
  const kept = shown.filter((point) => point[share] >= floor).map((point) => point[other]);
  return { [share]: [floor, top + 0.16 * (top - floor)], [other]: [Math.min(...kept), Math.max(...kept)] };
}

function padded([low, high], logarithmic) {
  const [from, to] = logarithmic ? [Math.log10(low), Math.log10(high)] : [low, high];
  const space = (to - from || Math.abs(to) || 1) * 0.06;
  return [from - space, to + space];
}

function range(letter, data, ranges, logarithmic) {
  if (!ranges[letter]) return { autorange: true };
  const share = data[letter].unit === "share";
  return { autorange: false, range: share ? ranges[letter] : padded(ranges[letter], logarithmic) };
}

export async function drawFront(element, data, { logarithmic, all, chosen }) {
  const front = data.points.filter((point) => point.front);
  const baselines = data.points.filter((point) => point.baseline);
  const others = data.points.filter((point) => !point.front && !point.baseline);
  const traces = [
    marks(others.filter((point) => !point.feasible), "beyond a limit", {
      marker: { size: 6, color: "rgba(0,0,0,0)", line: { width: 1, color: color("--muted-mark") } }, opacity: 0.8,
    }),
    marks(others.filter((point) => point.feasible), "within the limits", {
      marker: { size: 6, color: color("--muted-mark") }, opacity: 0.75,
    }),
    {
      type: "scatter", mode: "lines", x: front.map((point) => point.x), y: front.map((point) => point.y),
      line: { shape: data.x.best === "low" ? "hv" : "vh", width: 1.5, color: color("--soft") },
      hoverinfo: "skip", showlegend: false,
    },
  ];
  for (const kind of [...new Set(front.map((point) => point.kind))].sort((a, b) => a.length - b.length)) {
    const points = front.filter((point) => point.kind === kind);
    traces.push(marks(points, `front: ${kind}`, {
      marker: {
        symbol: PAIRS[kind] ?? KINDS[points[0].dimensions.length].symbol, color: kindColor(points[0]), opacity: 1,
        size: points.map((point) => (point.id === chosen ? 17 : 11)),
        line: { width: points.map((point) => (point.id === chosen ? 3 : 1)), color: color("--surface") },
      },
    }));
  }
  traces.push(marks(baselines, "uniform baselines", {
    marker: { symbol: "x-thin", size: 9, line: { width: 2.5, color: color("--ink") } },
  }));
  traces.push({
    type: "scatter", mode: "text", hoverinfo: "skip", showlegend: false, textposition: "middle right",
    x: data.marks.map((mark) => mark.x), y: data.marks.map((mark) => mark.y),
    text: data.marks.map((mark) => `\u2002${mark.text}`),
    textfont: { size: 11, color: color("--soft") },
  });
  if (data.float) {
    traces.push(marks([{ ...data.float, id: "" }], "float network", {
      mode: "markers+text", texttemplate: "float\u2002", textposition: "middle left", textfont: { size: 11, color: color("--soft") },
      marker: { symbol: "star", size: 14, color: color("--float-mark") },
    }));
  }
  const { tint, shapes, annotations } = region(data);
  const ranges = all ? {} : near(data);
  const drawn = {
    ...layout({ height: element.clientHeight, legend: true }), shapes, annotations,
    xaxis: { ...axis(data.x, { logarithmic }), ...range("x", data, ranges, logarithmic) },
    yaxis: { ...axis(data.y, { logarithmic }), ...range("y", data, ranges, logarithmic) },
  };
  await Plotly.react(element, traces, drawn, CONFIG);
  const box = tinted(element, tint, data);
  if (box) await Plotly.relayout(element, { shapes: [box, ...shapes] });
}

export async function drawGrowth(element, data) {
  const points = data.growth;
  const trace = {
    type: "scatter", mode: "lines", line: { shape: "hv", width: 2, color: color("--accent") },
    x: points.map(([number]) => number), y: points.map(([, value]) => value),
    hovertemplate: "after trial %{x}: %{y:.4~g}<extra></extra>",
  };
  await Plotly.react(element, [trace], {
    ...layout({ height: element.clientHeight, legend: false }),
    xaxis: { title: { text: "trial", standoff: 8, font: { size: 12 } }, gridcolor: color("--grid"), zeroline: false, automargin: true },
    yaxis: { title: { text: "hypervolume", font: { size: 12 } }, gridcolor: color("--grid"), zeroline: false, automargin: true, nticks: 4 },
  }, { ...CONFIG, displayModeBar: false });
}
