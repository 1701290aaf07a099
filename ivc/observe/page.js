// A picture of a plan to point at: what belongs to a node is shown, the rest fades. A click keeps
// it so; the legend hides paths; the field finds nodes. Text only ever becomes text, not markup.
"use strict";
const picture = document.querySelector("svg");
const told = document.querySelector("#told");
const nodes = [...picture.querySelectorAll(".node")];
const links = [...picture.querySelectorAll("[data-ends]")];
let kept = null;

const ends = (link) => link.dataset.ends.split(" ");
const titleOf = (element) => element.querySelector("title")?.textContent ?? "";

function show(node) {
  const id = node?.dataset.id;
  const near = new Set([id]);
  const ways = [];
  for (const link of links) {
    const on = id !== undefined && ends(link).includes(id);
    link.classList.toggle("on", on);
    if (on) {
      ends(link).forEach((end) => near.add(end));
      if (titleOf(link)) ways.push(titleOf(link));
    }
  }
  nodes.forEach((one) => one.classList.toggle("on", near.has(one.dataset.id)));
  picture.classList.toggle("pointing", node !== null);
  told.hidden = node === null;
  told.classList.toggle("kept", kept !== null);
  told.classList.toggle("left", node?.getBoundingClientRect().left > innerWidth / 2);
  told.textContent = node === null ? "" : [titleOf(node), ...ways].join("\n\n");
}

for (const node of nodes) {
  node.addEventListener("mouseenter", () => kept ?? show(node));
  node.addEventListener("mouseleave", () => kept ?? show(null));
  node.addEventListener("click", (event) => {
    event.stopPropagation();
    kept = kept === node ? null : node;
    show(kept ?? node);
  });
}
picture.addEventListener("click", () => show((kept = null)));

for (const entry of picture.querySelectorAll(".legend")) {
  entry.addEventListener("click", (event) => {
    event.stopPropagation();
    const off = entry.classList.toggle("off");
    for (const link of links)
      if (link.dataset.path === entry.dataset.path) link.classList.toggle("off", off);
  });
}

document.querySelector("#find").addEventListener("input", (event) => {
  const wanted = event.target.value.toLowerCase();
  for (const node of nodes)
    node.classList.toggle("found", wanted !== "" && titleOf(node).toLowerCase().includes(wanted));
});
