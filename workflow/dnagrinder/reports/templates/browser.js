"use strict";
// The genome browser: unpacked from this page and started when the reader asks for it, hidden and shown again after that.
const opener = document.getElementById("browser-open");
const stage = document.getElementById("genome-browser");
const choice = document.getElementById("browser-place");
const state = document.getElementById("browser-state");

const unpack = async (id) => {
  const packed = Uint8Array.from(atob(document.getElementById(id).textContent.replace(/\s/g, "")), (c) => c.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
};
const start = async () => {
  const script = document.createElement("script");
  script.textContent = await unpack("browser-source");
  document.head.append(script);
  const { reference, tracks } = JSON.parse(document.getElementById("browser-data").textContent);
  const browser = await igv.createBrowser(stage, {
    reference, tracks, locus: choice.value, loadDefaultGenomes: false, showIdeogram: false, showSVGButton: false,
    showChromosomeWidget: false, showROITableButton: false, showCursorTrackingGuideButton: false, promisified: true,
  });
  choice.addEventListener("change", () => browser.search(choice.value));
  return browser;
};
const show = (shown) => {
  stage.hidden = choice.parentElement.hidden = !shown;
  opener.setAttribute("aria-expanded", shown);
  opener.textContent = shown ? "Hide the genome browser" : "Show the genome browser";
};
let started = null;
opener.addEventListener("click", async () => {
  if (started) return show(stage.hidden);
  show(true);
  state.textContent = "Starting …";
  try {
    started = start();
    await started;
    state.textContent = "";
  } catch (problem) {
    started = null;
    show(false);
    state.textContent = `The genome browser did not start (${problem.message}). Figures and tables hold the same data.`;
  }
});
