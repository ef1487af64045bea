// The list of vocabularies of the server, kept up to date; subscribers are called on changes.
import { getJson } from "./api.js";
import { computed, signal } from "./lib.js";

const IDLE_MS = 10_000;
const ENCODING_MS = 400;
const known = signal(new Map()); // name -> facts
const watched = new Set(); // names whose encoding is shown, in addition to the chosen one
const subscribers = new Set();
const state = { changes: 0, timer: 0, isStarted: false };
export const chosenName = signal("");
export const isOffline = signal(false);
export const vocabularies = computed(() => [...known.value.values()].sort((one, other) => (one.name < other.name ? -1 : 1)));

export function subscribe(listener) {
  subscribers.add(listener);
}

export function factsOf(name) {
  return known.value.get(name);
}

export function names() {
  return [...known.value.keys()];
}

export function watch(name) {
  watched.clear();
  if (name) watched.add(name);
  plan();
}

export function isEncoding(facts) {
  return Boolean(facts) && (facts.current ?? 0) < facts.latest && !facts.encoding?.fault;
}

// Reads the whole list, page by page; results of changes made here are not replaced by older ones.
export async function refresh() {
  clearTimeout(state.timer);
  const changes = state.changes;
  try {
    const found = await readAll();
    isOffline.value = false;
    if (changes === state.changes) replaceAll(found);
  } catch (error) {
    isOffline.value = state.isStarted;
    throw error;
  } finally {
    plan();
  }
}

// Records the response to a change made here.
export function took(facts) {
  state.changes += 1;
  const before = factsOf(facts.name);
  if (!before || facts.latest >= before.latest) known.value = new Map(known.value).set(facts.name, { ...before, ...facts });
  tell();
  plan();
}

export function forget(name) {
  state.changes += 1;
  const left = new Map(known.value);
  left.delete(name);
  known.value = left;
  tell();
}

export function choose(name) {
  chosenName.value = name;
}

export async function start() {
  await refresh();
  if (state.isStarted) return;
  state.isStarted = true;
  plan();
  window.addEventListener("focus", quietly);
  document.addEventListener("visibilitychange", quietly);
}

async function readAll() {
  const found = [];
  let token = null;
  do {
    const page = await getJson(`v1/vocabularies${token ? `?page_token=${encodeURIComponent(token)}` : ""}`);
    found.push(...page.vocabularies);
    token = page.next_page_token;
  } while (token);
  return found;
}

function replaceAll(found) {
  known.value = new Map(found.map((facts) => [facts.name, facts]));
  tell();
}

function tell() {
  if (!known.value.has(chosenName.value)) {
    chosenName.value = vocabularies.value.find((facts) => facts.is_default)?.name ?? "";
  }
  for (const listener of subscribers) listener();
}

function plan() {
  clearTimeout(state.timer);
  if (!state.isStarted) return;
  const looked = [chosenName.value, ...watched].map(factsOf);
  state.timer = setTimeout(quietly, looked.some(isEncoding) ? ENCODING_MS : IDLE_MS);
}

function quietly() {
  if (document.visibilityState === "visible") refresh().catch(() => {}); // shown by `isOffline`
}
