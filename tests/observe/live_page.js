// SPDX-License-Identifier: Apache-2.0
// As much of a browser as live.js touches. Arguments: the script; JSON of the page's links, as pairs
// of ends and path, and of the answers of its server, null for none. Prints what is shown after each.
"use strict";
const fs = require("node:fs");
const vm = require("node:vm");

const [script, told] = process.argv.slice(2);
const { links, answers } = JSON.parse(told);
const shown = [];

const element = () => ({
  children: [],
  setAttribute() {},
  append(...more) {
    this.children.push(...more);
  },
  replaceChildren() {
    this.children = [];
  },
});
const paths = links.map(([ends, path]) => ({
  dataset: { ends, path },
  style: {},
  classList: { contains: () => false },
  getTotalLength: () => 10,
  getPointAtLength: () => ({ x: 0, y: 0 }),
}));
const state = element();
const layer = element();
const svg = { namespaceURI: "svg", appendChild: () => layer };

function show() {
  shown.push({
    state: state.textContent,
    labels: layer.children.map((each) => each.textContent),
    widths: paths.map((path) => path.style.strokeWidth ?? ""),
  });
}

vm.runInNewContext(fs.readFileSync(script, "utf8"), {
  document: {
    querySelectorAll: () => paths,
    querySelector: (name) => (name === "#live" ? state : svg),
    createElementNS: element,
  },
  fetch: async () => {
    const answer = answers.shift();
    if (!answer) throw new Error("nobody is there");
    return { ok: answer.flows !== undefined, json: async () => answer, text: async () => answer };
  },
  setTimeout: (look) => {
    show();
    if (answers.length) look();
    else console.log(JSON.stringify(shown));
  },
});
