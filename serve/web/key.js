// The API key: stored in this browser, sent with every request, asked for when the server requires one.
import { $ } from "./dom.js";

const STORAGE = "actserve-key";
let key = stored();
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

function keep(entered) {
  key = entered;
  document.body.classList.add("with-key");
  try {
    localStorage.setItem(STORAGE, entered);
  } catch {
    // without storage, the key is lost with the page
  }
}

function stored() {
  try {
    const found = localStorage.getItem(STORAGE);
    if (found) document.body.classList.add("with-key");
    return found;
  } catch {
    return null;
  }
}
