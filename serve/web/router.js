// The place in the page, in the hash of its address: #/TAB or #/TAB/NAME.
import { signal } from "./lib.js";

export const TABS = ["classify", "timeline", "search", "vocabularies", "models", "jobs", "settings"];
export const route = signal(parse());

export function addressOf(tab, name) {
  return `#/${tab}${name ? `/${encodeURIComponent(name)}` : ""}`;
}

export function go(tab, name) {
  location.hash = addressOf(tab, name);
  follow(); // the event follows later
}

export function followHash() {
  window.addEventListener("hashchange", follow);
}

function follow() {
  const { tab, name } = parse();
  if (tab !== route.peek().tab || name !== route.peek().name) route.value = { tab, name };
}

function parse() {
  const [, tab = "", name = ""] = location.hash.split("/");
  return { tab: TABS.includes(tab) ? tab : "classify", name: decoded(name) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}
