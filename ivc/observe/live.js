// What runs, painted on the picture of the plan: a link is as thick as there is traffic on it. The
// busiest have their rate beside them. Text only ever becomes text, not markup.
"use strict";
{
  const EVERY_MS = 1000;
  const TOLD = 12;
  const links = new Map(
    [...document.querySelectorAll("path[data-ends]")].map((link) => [
      `${link.dataset.ends} ${link.dataset.path}`,
      link,
    ]),
  );
  // A flow may go another way than planned, if a fault is about it: then it is on what there is.
  const byEnds = new Map([...links].map(([, link]) => [link.dataset.ends, link]));
  const linkOf = (name) => links.get(name) ?? byEnds.get(name.split(" ").slice(0, 2).join(" "));
  const state = document.querySelector("#live");
  const svg = document.querySelector("svg");
  const layer = svg.appendChild(document.createElementNS(svg.namespaceURI, "g"));
  let before = null;

  const scaled = (number) => {
    const letters = ["", "k", "M", "G"];
    let at = 0;
    while (number >= 1000 && at < 3) [number, at] = [number / 1000, at + 1];
    return `${number.toFixed(number < 10 && at > 0 ? 1 : 0)}${letters[at]}`;
  };

  // Bytes a second of each link that has some. A flow that is new has no rate yet.
  function rates(now) {
    const sums = new Map();
    const old = new Map((before?.flows ?? []).map((flow) => [flow.id, flow]));
    const seconds = now.clock - (before?.clock ?? now.clock);
    for (const flow of now.flows) {
      const grown = flow.written - (old.get(flow.id)?.written ?? Infinity);
      const link = linkOf(flow.link);
      if (link && seconds > 0 && grown > 0 && grown < Infinity)
        sums.set(link, (sums.get(link) ?? 0) + grown / seconds);
    }
    return sums;
  }

  function label(link, text) {
    const at = link.getPointAtLength(link.getTotalLength() / 2);
    const told = document.createElementNS(svg.namespaceURI, "text");
    told.setAttribute("class", `halo told ${link.dataset.path}`);
    told.setAttribute("x", at.x);
    told.setAttribute("y", at.y + 18); // below the name of the path
    told.textContent = text;
    layer.append(told);
  }

  function paint(now) {
    const sums = rates(now);
    for (const link of links.values()) {
      const rate = sums.get(link);
      link.style.strokeWidth = rate ? 1.6 + Math.log10(1 + rate) : "";
      link.style.strokeOpacity = rate ? 1 : "";
    }
    const busiest = [...sums].filter(([link]) => !link.classList.contains("off"));
    busiest.sort((one, other) => other[1] - one[1]);
    layer.replaceChildren();
    for (const [link, rate] of busiest.slice(0, TOLD)) label(link, `${scaled(rate)}B/s`);
    const total = [...sums.values()].reduce((sum, rate) => sum + rate, 0);
    state.textContent = `${now.flows.length} flows, ${scaled(total)}B/s on rings`;
    before = now;
  }

  async function look() {
    try {
      const answer = await fetch("live.json");
      if (answer.ok) paint(await answer.json());
      else state.textContent = await answer.text();
    } catch {
      state.textContent = "ivc graph --live has ended";
    }
    setTimeout(look, EVERY_MS);
  }
  look();
}
