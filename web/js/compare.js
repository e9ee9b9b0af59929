// Compare Before and After: the two pictures over each other in the node, under a slider or taking turns.
// Touches nodes of its own type only, one by one as they are made, and keeps its styles in a shadow root.

import { app } from "../../../scripts/app.js";
import { address, also, handToCanvas, recallOutput } from "./shared.js";

const NODE = "EmuEditCompare";
const TURN = 500; // ms a picture is shown while flickering: two changes a second, below what can harm
const STEP = 2; // percent for each press of an arrow key
const MIN_HEIGHT = 200;
const SIZE = [320, 360];

const PAGE = `
<style>
  :host { display: flex; flex-direction: column; width: 100%; height: 100%; min-height: ${MIN_HEIGHT}px; }
  .stage { position: relative; flex: 1; min-height: 0; overflow: hidden; border-radius: 4px; cursor: ew-resize;
           touch-action: none; user-select: none; background: rgba(0, 0, 0, 0.25); outline: none; }
  .stage:focus-visible { box-shadow: inset 0 0 0 2px #4a90d9; }
  .stage.flicker, .stage.none { cursor: default; }
  img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; pointer-events: none; }
  .line { position: absolute; top: 0; bottom: 0; width: 2px; margin-left: -1px; background: #fff;
          box-shadow: 0 0 3px #000; pointer-events: none; }
  .line::after { content: "\\2194"; position: absolute; top: 50%; left: 1px; transform: translate(-50%, -50%);
                 padding: 1px 5px; border-radius: 9px; background: #fff; color: #000; font: 13px sans-serif; }
  .tag { position: absolute; top: 6px; padding: 1px 6px; border-radius: 3px; background: rgba(0, 0, 0, 0.6);
         color: #fff; font: 12px sans-serif; pointer-events: none; }
  .before { left: 6px; } .after { right: 6px; }
  .empty { position: absolute; inset: 0; display: grid; place-items: center; color: #999; font: 13px sans-serif; }
  .bar { display: flex; justify-content: center; align-items: center; gap: 8px; height: 26px; color: #bbb;
         font: 12px sans-serif; }
  button { padding: 0 8px; border: 0; border-radius: 3px; background: #444; color: #ddd; cursor: pointer; }
  [hidden] { display: none !important; }
</style>
<div class="stage none" tabindex="0" role="slider" aria-valuemin="0" aria-valuemax="100">
  <img class="first" draggable="false" hidden><img class="second" draggable="false" hidden>
  <div class="line" hidden></div>
  <span class="tag before" hidden></span><span class="tag after" hidden></span>
  <span class="empty">&#9654;</span>
</div>
<div class="bar" hidden><button class="back">&#8249;</button><span class="count"></span><button class="on">&#8250;</button></div>
`;

class CompareView {
  constructor(node) {
    this.node = node;
    this.mode = "slider";
    this.split = 50;
    this.index = 0;
    this.pairs = [];
    this.turn = false;
    this.timer = null;
    this.element = document.createElement("div");
    this.element.className = "emu-edit-compare";
    const root = this.element.attachShadow({ mode: "open" });
    root.innerHTML = PAGE;
    this.part = (name) => root.querySelector("." + name);
    this.listen();
    this.draw();
  }

  listen() {
    const stage = this.part("stage");
    const follow = (event) => {
      const box = stage.getBoundingClientRect();
      if (box.width) this.moveTo((100 * (event.clientX - box.left)) / box.width);
    };
    stage.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || this.mode !== "slider" || !this.pairs.length) return;
      event.stopPropagation(); // else the node would be dragged
      stage.setPointerCapture(event.pointerId);
      follow(event);
    });
    stage.addEventListener("pointermove", (event) => {
      if (!stage.hasPointerCapture(event.pointerId)) return;
      event.stopPropagation();
      follow(event);
    });
    stage.addEventListener("keydown", (event) => {
      const to = { ArrowLeft: this.split - STEP, ArrowRight: this.split + STEP, Home: 0, End: 100 }[event.key];
      if (to === undefined || this.mode !== "slider") return;
      event.stopPropagation();
      event.preventDefault();
      this.moveTo(to);
    });
    for (const [name, by] of [["back", -1], ["on", 1]]) {
      const button = this.part(name);
      button.addEventListener("pointerdown", (event) => event.stopPropagation());
      button.addEventListener("click", () => this.choose(this.index + by));
    }
    handToCanvas(stage);
  }

  setMode(mode) {
    if (mode !== "slider" && mode !== "flicker") return;
    this.mode = mode;
    this.draw();
  }

  moveTo(split) {
    this.split = Math.min(100, Math.max(0, split));
    this.draw();
  }

  choose(index) {
    const count = this.pairs.length;
    this.index = count ? (index + count) % count : 0;
    this.load();
  }

  // output: what the node sent; "emu_edit_before" and "emu_edit_after" list the files of a batch.
  show(output) {
    const before = output?.emu_edit_before;
    const after = output?.emu_edit_after;
    if (!Array.isArray(before) || !Array.isArray(after)) return;
    this.pairs = before.slice(0, after.length).map((file, i) => [file, after[i]]);
    if (output.emu_edit_mode?.length) this.mode = output.emu_edit_mode[0];
    this.choose(Math.min(this.index, Math.max(0, this.pairs.length - 1)));
  }

  load() {
    const pair = this.pairs[this.index];
    if (pair) {
      this.part("first").src = address(pair[0]);
      this.part("second").src = address(pair[1]);
    }
    this.draw();
  }

  draw() {
    const some = this.pairs.length > 0;
    const slider = this.mode === "slider";
    const stage = this.part("stage");
    const label = (name) => {
      const input = this.node.inputs?.find((input) => input.name === name);
      return input?.label || input?.localized_name || name;
    };
    stage.className = "stage " + (some ? this.mode : "none");
    stage.setAttribute("aria-valuenow", Math.round(this.split));
    stage.setAttribute("aria-label", `${label("before")} | ${label("after")}`);
    this.part("first").hidden = !some;
    this.part("second").hidden = !some || (!slider && !this.turn);
    this.part("second").style.clipPath = slider ? `inset(0 0 0 ${this.split}%)` : "none";
    this.part("line").hidden = !some || !slider;
    this.part("line").style.left = this.split + "%";
    this.part("before").hidden = !some || (slider ? this.split < 15 : this.turn);
    this.part("after").hidden = !some || (slider ? this.split > 85 : !this.turn);
    this.part("before").textContent = label("before");
    this.part("after").textContent = label("after");
    this.part("empty").hidden = some;
    this.part("bar").hidden = this.pairs.length < 2;
    this.part("count").textContent = `${this.index + 1} / ${this.pairs.length}`;
    this.flicker(some && !slider);
  }

  flicker(on) {
    if (on && this.timer === null) {
      this.timer = setInterval(() => {
        if (!this.element.isConnected || document.hidden) return;
        this.turn = !this.turn;
        this.draw();
      }, TURN);
    } else if (!on && this.timer !== null) {
      clearInterval(this.timer);
      this.timer = null;
    }
  }
}

function attach(node) {
  const view = new CompareView(node);
  const widget = node.addDOMWidget("compare", "emu_edit_compare", view.element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => MIN_HEIGHT,
  });
  widget.serialize = false; // neither in the prompt nor in the saved workflow
  const mode = node.widgets.find((other) => other.name === "mode");
  if (mode) {
    view.setMode(mode.value);
    also(mode, "callback", (value) => view.setMode(value));
    also(node, "onConfigure", () => view.setMode(mode.value));
  }
  also(node, "onExecuted", (output) => view.show(output));
  also(node, "onRemoved", () => view.flicker(false));
  node.setSize([Math.max(node.size[0], SIZE[0]), Math.max(node.size[1], SIZE[1])]);
}

app.registerExtension({
  name: "EmuEdit.Compare",
  nodeCreated(node) {
    if (node.comfyClass === NODE) attach(node);
  },
  loadedGraphNode(node) {
    if (node.comfyClass === NODE) recallOutput(node);
  },
});
