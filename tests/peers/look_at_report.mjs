// Opens a report in headless Chromium as a reader would: on a desktop by day and by night, on a phone, and
// printed. Writes pictures of it, and prints as JSON what the page did: console messages, requests, widths.
import chromium from '@sparticuz/chromium';
import puppeteer from 'puppeteer-core';
import { readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const [report, folder] = process.argv.slice(2);
const own = pathToFileURL(report).href;
const args = ['--no-sandbox', '--no-zygote', '--single-process', '--disable-gpu', '--force-color-profile=srgb'];
const browser = await puppeteer.launch({
  executablePath: await chromium.executablePath(), headless: 'shell', args, pipe: true,
});
const found = { console: [], errors: [], requests: [], views: {} };
const page = await browser.newPage();
page.on('console', (message) => found.console.push(message.text()));
page.on('pageerror', (error) => found.errors.push(String(error)));
page.on('requestfailed', (request) => found.errors.push(`failed: ${request.url()}`));
page.on('request', (request) => {
  if (request.url() !== own && !request.url().startsWith('data:')) found.requests.push(request.url());
});

// Texts of cells that cannot be seen whole: past the edge of the page or of what scrolls, or cut off. On paper
// nothing scrolls, and on a phone nobody looks for what does.
function clipped() {
  const page = document.documentElement.clientWidth;
  return [...document.querySelectorAll('th, td, dd')].filter((cell) => cell.getClientRects().length > 0).filter((cell) => {
    const box = cell.getBoundingClientRect();
    const text = document.createRange();
    text.selectNodeContents(cell);
    const right = Math.max(box.right, text.getBoundingClientRect().right);
    const edge = cell.closest('.scroll')?.getBoundingClientRect().right ?? page;
    return right > Math.min(edge, page) + 1 || cell.scrollWidth > cell.clientWidth + 1;
  }).map((cell) => cell.innerText);
}

async function view(name, width, height, scheme, scale) {
  await page.setViewport({ width, height, deviceScaleFactor: scale });
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
  await page.goto(own);
  found.views[name] = await page.evaluate(() => ({
    scrolls: document.documentElement.scrollWidth,
    width: document.documentElement.clientWidth,
    background: getComputedStyle(document.body).backgroundColor,
    charts: [...document.querySelectorAll('svg.chart')].filter((svg) => svg.getClientRects().length > 0).length,
    unnamed: [...document.querySelectorAll('svg[role=img]')].filter((svg) =>
      svg.getAttribute('aria-labelledby').split(' ').some((id) => !document.getElementById(id)?.textContent)).length,
    scripts: document.scripts.length,
    smallest: Math.min(...[...document.querySelectorAll('svg.chart text')].map((text) => text.getBoundingClientRect())
      .filter((box) => box.height > 0).map((box) => box.height)),
    ids: [...document.querySelectorAll('[id]')].map((one) => one.id),
    heading: document.querySelector('h1').innerText,
    text: document.body.innerText,
  }));
  await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
  await page.evaluate(() => document.querySelectorAll('details').forEach((one) => { one.open = true; }));
  found.views[name].clipped = await page.evaluate(clipped);
}
const shown = (name) => `data:image/png;base64,${readFileSync(`${folder}/${name}.png`).toString('base64')}`;

await view('light', 1100, 900, 'light', 1);
// What every report of such a run has in words, and where a heading is nearest to the middle of the page.
const { labels, height, cut } = await page.evaluate(() => {
  document.querySelectorAll('details').forEach((one) => { one.open = false; });
  const labelled = document.querySelectorAll('h2, thead th, .tiles dt, .legend span:not([class])');
  const height = document.documentElement.scrollHeight;
  const tops = [...document.querySelectorAll('h2')].map((one) => Math.round(one.getBoundingClientRect().top + scrollY) - 24);
  const cut = tops.reduce((best, top) => (Math.abs(top - height / 2) < Math.abs(best - height / 2) ? top : best));
  return { labels: [...new Set([...labelled].map((one) => one.innerText.trim()).filter((text) => /^\D/.test(text)))], height, cut };
});
found.labels = labels;
await view('dark', 1100, 900, 'dark', 1);
await view('phone', 360, 740, 'light', 1);
await page.emulateMediaFeatures([]);
// The picture of the README: the whole page, its first half by day and its second by night.
await page.setViewport({ width: 2200, height: Math.max(cut, height - cut), deviceScaleFactor: 0.7 });
await page.setContent(`<style>body { margin: 0; display: flex; background: #101418 } div { flex: none; width: 1100px; overflow: hidden; height: 100vh; background: #fff }
  div + div { background: #101418 } img { display: block; clip-path: inset(0) }</style>
  <div style="height: 100vh"><div style="height: ${cut}px"><img src="${shown('light')}"></div></div><div><img style="margin-top: -${cut}px" src="${shown('dark')}"></div>`);
await page.screenshot({ path: `${folder}/picture.png` });
// Paper: A4 and Letter within their margins, and half of that.
await page.emulateMediaType('print');
found.print = {};
for (const width of [688, 710, 450]) {
  await page.setViewport({ width, height: 900 });
  await page.goto(own);
  found.print[width] = await page.evaluate(clipped);
}
await page.emulateMediaType(null);
writeFileSync(`${folder}/report.pdf`, await page.pdf({ format: 'A4' }));
console.log(JSON.stringify(found));
await browser.close();
