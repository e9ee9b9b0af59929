// Inspect Pair: small pairs to click, and the sheet of the one that is picked. The click sets the node's number.
// Touches nodes of its own type only, one by one as they are made, and keeps its styles in a shadow root.

import { app } from "../../../scripts/app.js";
import { address, also, handToCanvas, recallOutput } from "./shared.js";

const NODE = "EmuEditInspectPair";
const MIN_HEIGHT = 260;
const VUE_HEIGHT = 400; // Vue nodes give a widget the least it asks for, however large the node is
const SIZE = [520, 640];

const PAGE = `
<style>
  :host { display: flex; flex-direction: column; gap: 4px; width: 100%; height: 100%; min-height: ${MIN_HEIGHT}px; }
  .stage { position: relative; flex: 1; min-height: 0; overflow: hidden; border-radius: 4px;
           background: rgba(0, 0, 0, 0.25); }
  .sheet { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }
  .empty { position: absolute; inset: 0; display: grid; place-items: center; color: #999; font: 13px sans-serif; }
  .list { display: flex; flex-wrap: wrap; gap: 4px; max-height: 35%; overflow-y: auto; outline: none; padding: 2px; }
  .list:focus-visible { box-shadow: inset 0 0 0 1px #4a90d9; }
  .one { padding: 2px; border: 2px solid transparent; border-radius: 4px; background: #333; color: #ccc;
         font: 11px sans-serif; cursor: pointer; text-align: left; max-width: 160px; }
  .one:hover { background: #444; }
  .one[aria-selected="true"] { border-color: #4a90d9; color: #fff; }
  .one img { display: block; max-width: 100%; pointer-events: none; }
  .one span { display: block; overflow: hidden; white-space: nowrap; text-overflow: ellipsis; }
  [hidden] { display: none !important; }
</style>
<div class="stage"><img class="sheet" draggable="false" hidden><span class="empty">&#9654;</span></div>
<div class="list" tabindex="0" role="listbox" hidden></div>
`;

class CandidateView {
  // onPick(number): called with the number, from 1, of a candidate that was clicked.
  constructor(onPick) {
    this.onPick = onPick;
    this.sheets = [];
    this.beyond = {}; // the sheet of a picked candidate behind the last that is listed: index -> address
    this.index = 0;
    this.element = document.createElement("div");
    this.element.className = "emu-edit-candidates";
    const root = this.element.attachShadow({ mode: "open" });
    root.innerHTML = PAGE;
    this.part = (name) => root.querySelector("." + name);
    this.listen();
  }

  listen() {
    const list = this.part("list");
    // Else the node would be dragged; a wheel turned over a long list must scroll it, not the canvas.
    list.addEventListener("pointerdown", (event) => event.button === 0 && event.stopPropagation());
    list.addEventListener("wheel", (event) => list.scrollHeight > list.clientHeight && event.stopPropagation());
    list.addEventListener("click", (event) => {
      const one = event.target.closest(".one");
      if (one) this.pick(Number(one.dataset.index));
    });
    list.addEventListener("keydown", (event) => {
      const last = this.sheets.length - 1;
      const to = { ArrowLeft: this.index - 1, ArrowRight: this.index + 1, Home: 0, End: last }[event.key];
      if (to === undefined) return;
      event.stopPropagation();
      event.preventDefault();
      this.pick(Math.min(last, Math.max(0, to)));
    });
    handToCanvas(this.part("stage"));
  }

  // output: what the node sent; lists of files, and labels, one for each candidate that is listed.
  show(output) {
    const { emu_edit_sheets: sheets, emu_edit_strips: strips, emu_edit_labels: labels } = output ?? {};
    const { emu_edit_picked: [picked] = [0], emu_edit_beyond: [beyond] = [] } = output ?? {};
    if (!Array.isArray(sheets) || !Array.isArray(strips)) return;
    this.element.style.minHeight = globalThis.LiteGraph?.vueNodesMode ? VUE_HEIGHT + "px" : "";
    this.sheets = sheets.map(address);
    this.beyond = beyond ? { [picked]: address(beyond) } : {};
    const list = this.part("list");
    list.replaceChildren(
      ...strips.map((file, index) => {
        const one = document.createElement("button");
        one.className = "one";
        one.type = "button";
        one.tabIndex = -1;
        one.dataset.index = index;
        one.setAttribute("role", "option");
        one.title = labels?.[index] ?? "";
        const picture = document.createElement("img");
        picture.src = address(file);
        picture.draggable = false;
        const words = document.createElement("span");
        words.textContent = `${index + 1}: ${one.title}`; // never as HTML: it comes from captions
        one.append(picture, words);
        return one;
      }),
    );
    list.hidden = !this.sheets.length;
    this.mark(picked ?? 0);
  }

  pick(index) {
    this.mark(index);
    this.onPick(index + 1);
  }

  mark(index) {
    this.index = index;
    const list = this.part("list");
    [...list.children].forEach((one, i) => one.setAttribute("aria-selected", String(i === index)));
    const sheet = this.sheets[index] ?? this.beyond[index];
    if (sheet) this.part("sheet").src = sheet;
    this.part("sheet").hidden = !sheet;
    this.part("empty").hidden = Boolean(sheet);
    const chosen = list.children[index];
    if (chosen && list.scrollHeight > list.clientHeight) {
      list.scrollTop = Math.max(0, chosen.offsetTop - list.offsetTop - chosen.offsetHeight / 2);
    }
  }
}

function attach(node) {
  const number = node.widgets?.find((other) => other.name === "candidate");
  let picking = false;
  const view = new CandidateView((value) => {
    if (!number) return;
    picking = true;
    number.value = value;
    number.callback?.(value);
    picking = false;
    node.setDirtyCanvas?.(true, true);
    app.extensionManager?.workflow?.activeWorkflow?.changeTracker?.checkState?.(); // so that undo knows of it
  });
  const widget = node.addDOMWidget("candidates", "emu_edit_candidates", view.element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => MIN_HEIGHT,
  });
  widget.serialize = false; // neither in the prompt nor in the saved workflow
  // A number that is typed shows that candidate at once, too.
  const has = (value) => value <= view.sheets.length || value - 1 in view.beyond;
  if (number) also(number, "callback", (value) => !picking && has(value) && view.mark(value - 1));
  also(node, "onExecuted", (output) => view.show(output));
  node.setSize([Math.max(node.size[0], SIZE[0]), Math.max(node.size[1], SIZE[1])]);
}

app.registerExtension({
  name: "EmuEdit.Candidates",
  nodeCreated(node) {
    if (node.comfyClass === NODE) attach(node);
  },
  loadedGraphNode(node) {
    if (node.comfyClass === NODE) recallOutput(node);
  },
});
