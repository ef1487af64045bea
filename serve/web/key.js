// The API key: stored in this browser, sent with every request, asked for when the server requires one.
import { $ } from "./dom.js";
import { signal } from "./lib.js";
import { readStored, store } from "./storage.js";

const STORAGE = "actserve-key";
let key = readStored(STORAGE);
export const isKeyStored = signal(Boolean(key));
document.body.classList.toggle("with-key", Boolean(key));
let asking = null; // one dialog for all requests that wait

export function hasKey() {
  return Boolean(key);
}

export function keyHeader() {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

// Resolves to whether a key was entered.
export function askForKey(reason) {
  asking ??= new Promise((resolve) => {
    const dialog = $("key-dialog");
    $("key-reason").textContent = reason;
    $("key").value = "";
    dialog.showModal();
    dialog.addEventListener("close", () => {
      asking = null;
      const entered = dialog.returnValue === "use" ? $("key").value.trim() : "";
      if (entered) keep(entered);
      resolve(Boolean(entered));
    }, { once: true });
  });
  return asking;
}

export function forgetKey() {
  keep(null);
}

function keep(entered) {
  key = entered;
  isKeyStored.value = Boolean(entered);
  document.body.classList.toggle("with-key", Boolean(entered));
  store(STORAGE, entered);
}
