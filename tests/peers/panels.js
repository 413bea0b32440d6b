// In the page of draw_dashboard.mjs: draws the panels of a dashboard by their JSON and their series.
'use strict';

const WIDTH = 1400, HEAD = 62, UNIT = 30, GAP = 8, FOOT = 8;
const PALETTE = ['#73bf69', '#f2cc0c', '#5794f2', '#ff9830', '#f2495c', '#b877d9', '#8ab8ff', '#96d98d', '#ffb357', '#ca95e5'];
const NAMED = { green: '#299c46', yellow: '#e0b400', orange: '#ed8128', red: '#d44a3a', 'dark-red': '#c4162a' };
const INK = '#ccccdc', FAINT = '#8e8e99', GRID = '#2c3038';
const RAMPS = {
  Oranges: ['#3a2413', '#7f2704', '#d94801', '#fd8d3c', '#fdd0a2'],
  'continuous-blues': ['#141d2e', '#17406b', '#1f60c4', '#5794f2', '#c0d8ff'],
};
const CAPTION = 'Drawn from dashboards/tickgen.json and a live Prometheus by tickgen’s tests; not a Grafana screenshot.';

const STYLE = `
  body { margin: 0; width: ${WIDTH}px; position: relative; background: #111217; color: ${INK}; font: 12px "DejaVu Sans", sans-serif; }
  .head { position: absolute; left: 12px; right: 12px; top: 9px; font-size: 18px; }
  .head span { font-size: 11px; border: 1px solid ${GRID}; border-radius: 3px; padding: 3px 7px; margin-left: 8px; background: #181b1f; vertical-align: 2px; }
  .head em { float: right; font: 12px "DejaVu Sans", sans-serif; color: ${FAINT}; margin-top: 5px; }
  .head p { font-size: 12px; margin: 6px 0 0; color: #ffb357; }
  .panel { position: absolute; box-sizing: border-box; background: #181b1f; border: 1px solid ${GRID}; border-radius: 3px; overflow: hidden; }
  .panel h2 { font-size: 12.5px; font-weight: 600; margin: 0; padding: 7px 10px 3px; }
  .row { position: absolute; font-size: 14px; font-weight: 600; line-height: ${UNIT}px; padding-left: 4px; }
  .legend { position: absolute; left: 10px; right: 6px; bottom: 4px; font-size: 11px; line-height: 16px; max-height: 32px; overflow: hidden; }
  .legend span { margin-right: 12px; white-space: nowrap; }
  .legend i { display: inline-block; width: 12px; height: 3px; margin-right: 5px; vertical-align: 3px; border-radius: 2px; }
  .stat { position: absolute; inset: 29px 8px 8px; border-radius: 3px; display: flex; align-items: center; justify-content: center; font-size: 38px; color: #fff; }
  .plot { position: absolute; left: 0; top: 26px; }
`;

/** A number in the unit of a panel, as Grafana writes it. */
function written(value, unit, decimals) {
  const digits = (number) => String(Number(number.toPrecision(3)));
  const scaled = (base, names, suffix) => {
    let [left, place] = [value, 0];
    while (Math.abs(left) >= base && place < names.length - 1) [left, place] = [left / base, place + 1];
    return `${digits(left)}${names[place] || suffix ? ` ${names[place]}${suffix}` : ''}`;
  };
  switch (unit) {
    case 's': {
      if (value === 0) return '0 s';
      if (Math.abs(value) < 0.001) return `${digits(value * 1e6)} µs`;
      return Math.abs(value) < 1 ? `${digits(value * 1e3)} ms` : `${digits(value)} s`;
    }
    case 'percentunit': return `${Number((value * 100).toFixed(decimals ?? 1))}%`;
    case 'bytes': return scaled(1024, ['B', 'KiB', 'MiB', 'GiB'], '');
    case 'Bps': return scaled(1000, ['B', 'kB', 'MB', 'GB'], '/s');
    case 'short': return scaled(1000, ['', 'K', 'Mil', 'Bil'], '');
    case 'recps': return `${written(value, 'short')} rec/s`;
    case 'reqps': return `${written(value, 'short')} req/s`;
    case 'locale': return Math.round(value).toLocaleString('en-US');
    default: throw new Error(`unit ${unit}`);
  }
}

const colour = (name) => NAMED[name] ?? name;

/** What the overrides of a panel say of a series, by the names of the properties. */
function overridden(panel, name) {
  const meant = ({ id, options }) => {
    if (id === 'byName') return options === name;
    if (id === 'byRegexp') return new RegExp(options.replace(/^\/|\/$/g, '')).test(name);
    throw new Error(`matcher ${id}`);
  };
  const properties = panel.fieldConfig.overrides.filter(({ matcher }) => meant(matcher)).flatMap((one) => one.properties);
  return Object.fromEntries(properties.map(({ id, value }) => [id, value]));
}

/** The threshold of a panel that a value has reached. */
const reached = ({ steps }, value) => steps.findLast((step) => step.value === null || value >= step.value);

/** The colour at a share from 0 to 1 of a ramp. */
function ramp(name, share) {
  const stops = RAMPS[name];
  if (!stops) throw new Error(`colours ${name}`);
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const [low, part] = [Math.min(Math.floor(at), stops.length - 2), at - Math.min(Math.floor(at), stops.length - 2)];
  const channels = (stop) => [1, 3, 5].map((from) => parseInt(stops[stop].slice(from, from + 2), 16));
  const [one, other] = [channels(low), channels(low + 1)];
  return `rgb(${one.map((channel, n) => Math.round(channel + (other[n] - channel) * part)).join(',')})`;
}

function element(parent, kind, className, text) {
  const made = document.createElement(kind);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

const axis = (more) => ({
  stroke: FAINT, grid: { stroke: GRID, width: 1 }, ticks: { stroke: GRID, width: 1 }, font: '11px "DejaVu Sans"', ...more,
});

/** uPlot in a panel; `more` is what is of the panel's type. */
function plot(box, data, more, { start, end }, y) {
  const height = box.clientHeight - 30 - (more.legendHeight ?? 22);
  const { legendHeight: _, ...options } = more;
  const place = element(box, 'div', 'plot');
  return new uPlot({
    width: box.clientWidth - 8, height, legend: { show: false }, cursor: { show: false }, padding: [8, 26, 0, 0],
    axes: [axis({ space: 70, size: 24, values: (_, seconds) => seconds.map((at) => new Date(at * 1000).toISOString().slice(11, 19)) }), axis(y)],
    ...options, scales: { ...options.scales, x: { time: true, range: [start, end] } },
  }, data, place);
}

function legend(box, names) {
  const line = element(box, 'div', 'legend');
  for (const [name, colour] of names) {
    const one = element(line, 'span');
    element(one, 'i').style.background = colour;
    one.append(name);
  }
  return line;
}

/** Each series over those before it. */
function stacked(series) {
  const sums = [];
  return series.map(({ values }) => values.map((value, n) => (sums[n] = (sums[n] ?? 0) + (value ?? 0))));
}

function timeseries(box, { panel, series }, range) {
  const { unit, min, max, custom } = panel.fieldConfig.defaults;
  const isStacked = custom.stacking?.mode === 'normal';
  const values = isStacked ? stacked(series) : series.map((one) => one.values);
  const own = series.map(({ name }) => overridden(panel, name));
  const colours = own.map(({ color }, n) => colour(color?.fixedColor) ?? PALETTE[n % PALETTE.length]);
  if (panel.options.legend.showLegend) legend(box, series.map(({ name }, n) => [name, colours[n]]));
  const order = isStacked ? series.map((_, n) => series.length - 1 - n) : series.map((_, n) => n);
  const opacity = (n) => Math.round(((own[n]['custom.fillOpacity'] ?? custom.fillOpacity) / 100) * 255).toString(16).padStart(2, '0');
  const lines = order.map((n) => ({
    stroke: colours[n], width: custom.lineWidth + 0.3, fill: `${colours[n]}${opacity(n)}`, points: { show: custom.showPoints !== 'never' },
    dash: own[n]['custom.lineStyle']?.dash,
  }));
  const limits = (_, low, high) => {
    const [from, to] = [min ?? Math.min(low ?? 0, 0), max ?? Math.max((high ?? 0) * 1.08, low ?? 0)];
    return [from, to > from ? to : from + 1];
  };
  const more = { series: [{}, ...lines], scales: { y: { range: limits } }, legendHeight: box.querySelector('.legend')?.offsetHeight + 4 || 4 };
  plot(box, [series[0].times, ...order.map((n) => values[n])], more, range, {
    size: 68, space: 28, values: (_, marks) => marks.map((mark) => written(mark, unit)),
  });
}

/** Rows of cells over time: `filled[row][n]` is the colour, null for none. */
function cells(box, names, times, filled, range, gap) {
  const step = times[1] - times[0];
  const draw = (u) => {
    const height = u.bbox.height / names.length;
    u.ctx.save();
    filled.forEach((row, y) => row.forEach((fill, n) => {
      const left = Math.max(u.valToPos(times[n] - step, 'x', true), u.bbox.left);
      const right = u.valToPos(times[n], 'x', true);
      if (fill === null || right <= left) return;
      u.ctx.fillStyle = fill;
      u.ctx.fillRect(left, u.bbox.top + u.bbox.height - (y + 1) * height + gap / 2, right - left + 0.5, height - gap);
    }));
    u.ctx.restore();
  };
  plot(box, [times, times.map(() => 0)], {
    series: [{}, { show: false }], scales: { y: { range: [0, names.length] } }, hooks: { draw: [draw] },
  }, range, {
    size: 112, grid: { show: false }, splits: () => names.map((_, n) => n + 0.5), values: () => names, space: 8,
  });
}

/** A bar of the colours with its ends. */
function scale(box, colours, low, high) {
  const line = element(box, 'div', 'legend');
  const bar = element(line, 'i');
  const stops = Array.from({ length: 11 }, (_, n) => ramp(colours, n / 10)).join(',');
  bar.style.cssText = `width: 160px; height: 8px; vertical-align: -1px; margin: 0 8px; background: linear-gradient(90deg, ${stops})`;
  line.prepend(low);
  line.append(high);
}

/** The buckets of Prometheus, each without those under it, as Grafana shows them. */
function heatmap(box, { panel, series }, range) {
  const bound = ({ metric }) => (metric.le === '+Inf' ? Infinity : Number(metric.le));
  const rising = [...series].sort((a, b) => bound(a) - bound(b));
  const counts = rising.map(({ values }, n) => values.map((value, at) =>
    (value === null ? null : Math.max(value - (n > 0 ? rising[n - 1].values[at] ?? 0 : 0), 0))));
  const most = Math.max(...counts.flat());
  const colours = panel.options.color.scheme;
  const shares = counts.map((row) => row.map((value) => (value === null || value <= 0 ? null : Math.sqrt(value / most))));
  const { unit } = panel.options.yAxis;
  const names = rising.map((one) => (bound(one) === Infinity ? '+Inf' : written(bound(one), unit)));
  scale(box, colours, '0', written(most, panel.options.cellValues.unit));
  const filled = shares.map((row) => row.map((share) => (share === null ? null : ramp(colours, share))));
  cells(box, names, rising[0].times, filled, range, panel.options.cellGap);
  return filled.filter((row) => row.some((fill) => fill !== null)).length;
}

function statusHistory(box, { panel, series }, range) {
  const { color, max, thresholds, unit } = panel.fieldConfig.defaults;
  const rows = [...series].reverse().slice(-panel.options.perPage);
  const filled = (fill) => rows.map(({ values }) => values.map((value) => (value === null ? null : fill(value))));
  const names = rows.map(({ name }) => name.replace(/shardId-0+(?=\d)/, 'shard '));
  if (color.mode === 'thresholds') {
    const steps = thresholds.steps.map(({ value, color }, n) =>
      [value === null ? `< ${written(thresholds.steps[n + 1].value, unit)}` : `${written(value, unit)}+`, colour(color)]);
    legend(box, steps);
    cells(box, names, rows[0].times, filled((value) => colour(reached(thresholds, value).color)), range, 2);
    return;
  }
  const most = max ?? Math.max(...rows.flatMap(({ values }) => values));
  scale(box, color.mode, '0', written(most, unit));
  cells(box, names, rows[0].times, filled((value) => ramp(color.mode, value / (most || 1))), range, 2);
}

function stat(box, { panel, series }) {
  const { unit, decimals, thresholds } = panel.fieldConfig.defaults;
  const value = series[0].values.findLast((one) => one !== null);
  element(box, 'div', 'stat', written(value, unit, decimals)).style.background = colour(reached(thresholds, value).color);
}

const TYPES = { timeseries, heatmap, stat, 'status-history': statusHistory };

/** Draws all panels; tells of each how many series have a value. */
function drawDashboard({ title, shown, start, end, variables }) {
  element(document.head, 'style', '', STYLE);
  const head = element(document.body, 'div', 'head', title);
  for (const name of variables) element(head, 'span', '', `${name}: All`);
  element(head, 'em', '', `${Math.round((end - start) / 60) || 1} min until ${new Date(end * 1000).toISOString().slice(0, 16).replace('T', ' ')} UTC`);
  element(head, 'p', '', CAPTION);
  const [column, row] = [(WIDTH - 2 * GAP) / 24, UNIT + GAP];
  let bottom = 0;
  const drawn = shown.map((one) => {
    const { panel, series } = one;
    const { x, y, w, h } = panel.gridPos;
    const box = element(document.body, 'div', panel.type === 'row' ? 'row' : 'panel');
    const top = HEAD + y * row;
    bottom = Math.max(bottom, top + h * row);
    box.style.cssText = `left: ${GAP + x * column + GAP / 2}px; top: ${top}px; width: ${w * column - GAP}px; height: ${h * row - GAP}px`;
    const told = { id: panel.id, title: panel.title, type: panel.type, top, targets: one.targets };
    if (panel.type === 'row') {
      box.textContent = `⌄ ${panel.title}`;
      return { ...told, series: 0 };
    }
    element(box, 'h2', '', panel.title);
    const filled = series.filter(({ values }) => values.some((value) => value !== null));
    if (filled.length === 0) return { ...told, series: 0 };
    if (!TYPES[panel.type]) throw new Error(`panel ${panel.title}: type ${panel.type}`);
    const seen = TYPES[panel.type](box, { panel, series: filled }, { start, end });
    return { ...told, series: seen ?? filled.length };
  });
  document.body.style.height = `${bottom + FOOT}px`;
  return drawn;
}
