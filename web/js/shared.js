// What the pack's widgets share. The frontend loads every script of this folder as an extension: this one
// registers nothing and does nothing by being loaded.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";

// The address of a file as a node's output tells it: {filename, subfolder, type}.
export function address(file) {
  return api.apiURL("/view?" + new URLSearchParams(file));
}

// Calls `more` after what `target` already does; only this one object is changed.
export function also(target, name, more) {
  const first = target[name];
  target[name] = function (...args) {
    const result = first?.apply(this, args);
    more(...args);
    return result;
  };
}

// With nodes on a canvas a widget lies above it: hand on what zooms and pans. Vue nodes hear it themselves.
export function handToCanvas(element) {
  const onCanvas = () => !globalThis.LiteGraph?.vueNodesMode && app.canvas;
  element.addEventListener("wheel", (event) => onCanvas() && app.canvas.processMouseWheel?.(event));
  for (const [type, handler] of [
    ["pointerdown", "processMouseDown"],
    ["pointermove", "processMouseMove"],
    ["pointerup", "processMouseUp"],
  ]) {
    element.addEventListener(type, (event) => {
      const middle = event.button === 1 || (event.buttons & 4) === 4;
      if (middle && onCanvas()) app.canvas[handler]?.(event);
    });
  }
}

// A workflow that is opened again from its tab still has its results, but gets them back only after its nodes.
export function recallOutput(node) {
  const recall = () => node.graph && app.nodeOutputs?.[node.id] && node.onExecuted?.(app.nodeOutputs[node.id]);
  for (const wait of [0, 500]) setTimeout(recall, wait);
}
