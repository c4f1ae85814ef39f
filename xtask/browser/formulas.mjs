// The formulas of rustdoc's pages in a browser: `node formulas.mjs FOLDER [SCREENSHOTS]`, with playwright-core and katex
// installed where Node finds them.
//
// Every page of a function shows a formula; every formula is rendered without complaint; without a network the page is
// left as it is. KaTeX comes from the package, under the address and with the digest that the header names.

import assert from "node:assert/strict";
import { mkdir, readFile, readdir } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [folder, screenshots] = process.argv.slice(2);
assert(folder, "which folder?");
// Installed under the working directory, not beside this file.
const require = createRequire(path.resolve("package.json"));
const { chromium } = require("playwright-core");
const katex = path.dirname(require.resolve("katex/package.json"));
const { version } = require("katex/package.json");
const ADDRESS = `https://cdn.jsdelivr.net/npm/katex@${version}/`;

/** A tab for which KaTeX comes from the package, or from nowhere. */
async function open(browser, online) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 900 } });
  await context.route(/^https?:/, async (route) => {
    const address = route.request().url();
    if (!online) return route.abort();
    assert(address.startsWith(ADDRESS), `request: ${address}`);
    const body = await readFile(path.join(katex, address.slice(ADDRESS.length)));
    // The page is a file: what it asks for comes from elsewhere.
    return route.fulfill({ body, contentType: type(address), headers: { "access-control-allow-origin": "*" } });
  });
  const tab = await context.newPage();
  const complaints = [];
  tab.on("pageerror", (error) => complaints.push(`script: ${error}`));
  tab.on("console", (message) => {
    if (online && ["error", "warning"].includes(message.type())) complaints.push(`console: ${message.text()}`);
  });
  return { tab, complaints };
}

function type(address) {
  return { ".js": "text/javascript", ".css": "text/css", ".woff2": "font/woff2" }[path.extname(address)];
}

/** How many blocks a page has as TeX, and as formulas with a size. */
async function count(tab, name) {
  await tab.goto(pathToFileURL(path.resolve(folder, name)).href, { waitUntil: "load" });
  return tab.evaluate(() => ({
    tex: document.querySelectorAll("pre.language-math").length,
    formulas: [...document.querySelectorAll(".katex-display")].filter((f) => f.getBoundingClientRect().height > 10).length,
    // Of what is drawn, not of the text for readers of the page.
    words: document.querySelectorAll(".katex-html").length,
  }));
}

// Root may not use the sandbox.
const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
try {
  const pages = (await readdir(folder)).filter((name) => name.endsWith(".html")).sort();
  const { tab, complaints } = await open(browser, true);
  let total = 0;
  let functions = 0;
  for (const name of pages) {
    const { tex, formulas, words } = await count(tab, name);
    assert.deepEqual(complaints, [], name);
    assert.equal(tex, 0, `${name}: ${tex} blocks are not rendered`);
    assert.equal(words, formulas, `${name}: a formula has no size`);
    if (name.startsWith("fn.")) {
      functions += 1;
      assert(formulas > 0, `${name} has no formula`);
    }
    if (screenshots && formulas > 0) {
      await mkdir(screenshots, { recursive: true });
      await tab.screenshot({ path: path.join(screenshots, name.replace(".html", ".png")) });
    }
    total += formulas;
  }
  assert(functions > 0, "no functions");
  const offline = await open(browser, false);
  const left = await count(offline.tab, pages.find((name) => name.startsWith("fn.")));
  assert.deepEqual(offline.complaints, []);
  assert(left.tex > 0 && left.formulas === 0, "without a network the TeX is gone");
  console.log(`${total} formulas on ${pages.length} pages, ${functions} of them functions`);
} finally {
  await browser.close();
}
