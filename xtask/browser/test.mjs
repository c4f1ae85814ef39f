// The report in a browser: `node test.mjs PAGE [SCREENSHOTS]`, with playwright-core installed where Node finds it.
//
// The page must load from a file without complaint and without a request to anywhere, show every drawing inside the
// window on a phone and on a desktop, in light and in dark, and hand out its data.

import assert from "node:assert/strict";
import { mkdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [page, screenshots] = process.argv.slice(2);
assert(page, "which page?");
// Installed under the working directory, not beside this file.
const { chromium } = createRequire(path.resolve("package.json"))("playwright-core");

const WINDOWS = [
  { name: "phone", width: 390, height: 844 },
  { name: "desktop", width: 1280, height: 900 },
];
const SCHEMES = ["light", "dark"];

/** Opens the page and returns what went wrong meanwhile, in a list that grows. */
async function open(browser, options) {
  const context = await browser.newContext({ acceptDownloads: true, ...options });
  const tab = await context.newPage();
  const complaints = [];
  tab.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(`console: ${message.text()}`);
  });
  tab.on("pageerror", (error) => complaints.push(`script: ${error}`));
  tab.on("requestfailed", (request) => complaints.push(`failed: ${request.url().slice(0, 80)}`));
  tab.on("request", (request) => {
    const address = request.url();
    if (!address.startsWith("file:") && !address.startsWith("data:")) complaints.push(`request: ${address}`);
  });
  await tab.goto(pathToFileURL(path.resolve(page)).href, { waitUntil: "load" });
  return { context, tab, complaints };
}

/** Every drawing has a size, lies inside the window, and has a name. */
async function checkDrawings(tab, width) {
  const drawings = await tab.locator("figure svg").evaluateAll((all) =>
    all.map((svg) => {
      const box = svg.getBoundingClientRect();
      const marks = svg.querySelectorAll("circle, polyline, polygon, line, rect, path");
      const visible = [...marks].filter((mark) => mark.getBoundingClientRect().width + mark.getBoundingClientRect().height > 0);
      return {
        left: box.left,
        right: box.right,
        width: box.width,
        height: box.height,
        marks: visible.length,
        role: svg.getAttribute("role"),
        label: svg.getAttribute("aria-label"),
        title: svg.querySelector("title")?.textContent,
        shown: svg.checkVisibility(),
      };
    }),
  );
  assert(drawings.length > 0, "no drawings");
  for (const drawing of drawings) {
    const what = `${drawing.title} at ${width} px`;
    assert(drawing.shown && drawing.width > 200 && drawing.height > 100, `${what} is hidden or small`);
    assert(drawing.left >= 0 && drawing.right <= width + 0.5, `${what} leaves the window`);
    assert(drawing.marks > 5, `${what} is empty`);
    assert(drawing.role === "img" && drawing.title && drawing.label.length > 20, `${what} has no name`);
  }
  const scroll = await tab.evaluate(() => document.documentElement.scrollWidth);
  assert(scroll <= width, `the page is ${scroll} px wide in a window of ${width}`);
  return drawings.length;
}

/** Text differs from the card that it stands on, in brightness. */
async function checkContrast(tab) {
  const least = await tab.evaluate(() => {
    const channels = (text) => text.match(/[\d.]+/g).slice(0, 3).map(Number);
    const luminance = (text) => {
      const linear = channels(text).map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
      return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    };
    const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    let least = Infinity;
    for (const figure of document.querySelectorAll("figure")) {
      const card = luminance(getComputedStyle(figure).backgroundColor);
      for (const text of figure.querySelectorAll("svg text")) {
        least = Math.min(least, ratio(luminance(getComputedStyle(text).fill), card));
      }
    }
    return least;
  });
  assert(least >= 4.5, `text in a drawing has a contrast of ${least}`);
}

/** Chromium lets a tab start ten downloads and then asks, now and then in spite of clicks: fewer a tab. */
const DOWNLOADS = 8;

/** Every download link hands out a file that can be read, the same as the one beside the page. */
async function checkDownloads(browser, options) {
  let count = DOWNLOADS;
  for (let first = 0; first < count; first += DOWNLOADS) {
    const { context, tab, complaints } = await open(browser, options);
    const links = tab.locator("a[download]");
    count = await links.count();
    assert(count > 0, "no downloads");
    for (let at = first; at < Math.min(first + DOWNLOADS, count); at++) {
      await checkDownload(tab, links.nth(at));
    }
    assert.deepEqual(complaints, []);
    await context.close();
  }
  return count;
}

async function checkDownload(tab, link) {
  const [download] = await Promise.all([tab.waitForEvent("download"), link.click()]);
  const name = download.suggestedFilename();
  const text = await readFile(await download.path(), "utf8");
  assert.equal(text, await readFile(path.join(path.dirname(page), name), "utf8"), `${name} differs from its file`);
  if (name.endsWith(".json")) {
    assert(JSON.parse(text).length > 0, `${name} has no rows`);
  } else {
    assert(name.endsWith(".csv"), name);
    checkCsv(name, text);
  }
}

/** Lines of as many fields as the head has. */
function checkCsv(name, text) {
  const lines = text.trimEnd().split("\n").map((line) => line.match(/("([^"]|"")*"|[^,]*)(,|$)/g).length - (line.endsWith(",") ? 0 : 1));
  assert(lines.length > 1, `${name} has no rows`);
  assert(lines.every((fields) => fields === lines[0]), `${name} has ragged rows`);
}

// Root may not use the sandbox.
const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
try {
  let grounds = new Set();
  for (const { name, width, height } of WINDOWS) {
    for (const colorScheme of SCHEMES) {
      const options = { viewport: { width, height }, colorScheme };
      const { context, tab, complaints } = await open(browser, options);
      const drawings = await checkDrawings(tab, width);
      await checkContrast(tab);
      grounds.add(await tab.evaluate(() => getComputedStyle(document.body).backgroundColor));
      if (screenshots) {
        await mkdir(screenshots, { recursive: true });
        await tab.screenshot({ path: path.join(screenshots, `${name}-${colorScheme}.png`), fullPage: true });
      }
      const downloads = width > 1000 && colorScheme === "light" ? await checkDownloads(browser, options) : 0;
      assert.deepEqual(complaints, []);
      console.log(`${name}, ${colorScheme}: ${drawings} drawings${downloads ? `, ${downloads} downloads` : ""}`);
      await context.close();
    }
  }
  assert.equal(grounds.size, SCHEMES.length, "dark and light look alike");
} finally {
  await browser.close();
}
