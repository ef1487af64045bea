// Light or dark colours: those of the system, or chosen here.
import { effect, signal } from "./lib.js";
import { readStored, store } from "./storage.js";

const KEY = "actserve-theme";
export const THEMES = ["system", "light", "dark"];
const stored = readStored(KEY);
export const theme = signal(THEMES.includes(stored) ? stored : "system");

export function setTheme(chosen) {
  theme.value = chosen;
  store(KEY, chosen);
}

export function followTheme() {
  effect(() => {
    document.documentElement.dataset.theme = theme.value;
  });
}
