// Draws a Grafana dashboard without Grafana: asks a live Prometheus for every target of every panel, with the variables
// at All, and draws each panel with uPlot in headless Chromium, at its place and as its options say. Prints as JSON what
// was drawn. Arguments: the dashboard, Prometheus' address, the seconds to show, the scrape interval, the folder of uPlot,
// panels.js, and the folder for all.png and top.png, which ends where the row of that title begins.
import chromium from '@sparticuz/chromium';
import puppeteer from 'puppeteer-core';
import { readFileSync } from 'node:fs';

const [file, prometheus, span, scrape, uplot, panels, folder, until] = process.argv.slice(2);
const dashboard = JSON.parse(readFileSync(file, 'utf8'));
const POINTS = 300;
const end = Math.floor(Date.now() / 1000);
const [start, step] = [end - Number(span), Math.max(Math.ceil(Number(span) / POINTS), Number(scrape))];
// As Grafana's Prometheus data source has them.
const times = { $__rate_interval: Math.max(step + Number(scrape), 4 * Number(scrape)), $__range: Number(span) };

async function ask(path, parameters) {
  const answer = await (await fetch(`${prometheus}/api/v1/${path}?${new URLSearchParams(parameters)}`)).json();
  if (answer.status !== 'success') throw new Error(`${parameters.query}: ${answer.error}`);
  return answer.data.result;
}

function substituted(expression) {
  let text = expression;
  for (const [name, seconds] of Object.entries(times)) text = text.replaceAll(name, `${seconds}s`);
  for (const { name, allValue } of dashboard.templating.list) {
    if (allValue) text = text.replaceAll(`$${name}`, allValue);
  }
  if (text.includes('$')) throw new Error(`a variable that no one substitutes: ${text}`);
  return text;
}

const number = (text) => (Number.isFinite(Number(text)) ? Number(text) : null);

/** Every series of a target: its name, and a value or null at each step. */
async function series({ expr, legendFormat, instant }) {
  const query = substituted(expr);
  const found = instant
    ? (await ask('query', { query, time: end })).map((one) => ({ ...one, values: [one.value] }))
    : await ask('query_range', { query, start, end, step });
  return found.map(({ metric, values }) => {
    const at = new Map(values.map(([time, value]) => [time, number(value)]));
    const steps = instant ? [end] : Array.from({ length: Math.floor((end - start) / step) + 1 }, (_, n) => start + n * step);
    const name = legendFormat.replace(/\{\{(\w+)\}\}/g, (_, label) => metric[label] ?? '');
    return { name, metric, times: steps, values: steps.map((time) => at.get(time) ?? null) };
  });
}

/** Panels by their place, those of collapsed rows too. */
const all = dashboard.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])]);
const shown = [];
for (const panel of all) {
  const found = await Promise.all((panel.targets ?? []).map(series));
  shown.push({ panel, targets: found.map((one) => one.length), series: found.flat() });
}
const browser = await puppeteer.launch({
  executablePath: await chromium.executablePath(), headless: 'shell', pipe: true,
  // uPlot asks for the browser's language, which under LANG=C is none.
  env: { ...process.env, LC_ALL: 'en_US.UTF-8', LANGUAGE: 'en_US' },
  args: ['--no-sandbox', '--no-zygote', '--single-process', '--disable-gpu', '--force-color-profile=srgb'],
});
const page = await browser.newPage();
const errors = [];
page.on('console', (message) => errors.push(message.text()));
page.on('pageerror', (error) => errors.push(String(error)));
await page.setViewport({ width: 1400, height: 900, deviceScaleFactor: 1 });
await page.setContent('<!doctype html><meta charset="utf-8"><body></body>');
await page.addStyleTag({ path: `${uplot}/uPlot.min.css` });
await page.addScriptTag({ path: `${uplot}/uPlot.iife.min.js` });
await page.addScriptTag({ path: panels });
if (errors.length > 0) throw new Error(errors.join());
const drawn = await page.evaluate((given) => drawDashboard(given), {
  title: dashboard.title, shown, start, end,
  variables: dashboard.templating.list.filter(({ allValue }) => allValue).map(({ label }) => label),
});
const size = await page.evaluate(() => ({ width: document.body.scrollWidth, height: document.body.scrollHeight }));
await page.screenshot({ path: `${folder}/all.png`, clip: { x: 0, y: 0, ...size } });
const row = drawn.find(({ title }) => title === until);
await page.screenshot({ path: `${folder}/top.png`, clip: { x: 0, y: 0, width: size.width, height: row.top } });
console.log(JSON.stringify({ errors, panels: drawn }));
await browser.close();
