// The list of vocabularies of the server, kept up to date; subscribers are called on changes.
import { getJson } from "./api.js";
import { $, arrange, count, element } from "./dom.js";

const IDLE_MS = 10_000;
const ENCODING_MS = 400;
const known = new Map(); // name -> facts
const watched = new Set(); // names whose encoding is shown, in addition to the chosen one
const subscribers = new Set();
const state = { changes: 0, timer: 0, isStarted: false };

export function subscribe(listener) {
  subscribers.add(listener);
}

export function factsOf(name) {
  return known.get(name);
}

export function names() {
  return [...known.keys()];
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
    $("offline").hidden = true;
    if (changes === state.changes) replaceAll(found);
  } catch (error) {
    $("offline").hidden = !state.isStarted;
    throw error;
  } finally {
    plan();
  }
}

// Records the response to a change made here.
export function took(facts) {
  state.changes += 1;
  const before = known.get(facts.name);
  if (!before || facts.latest >= before.latest) known.set(facts.name, { ...before, ...facts });
  tell();
  plan();
}

export function forget(name) {
  state.changes += 1;
  known.delete(name);
  tell();
}

export function choose(name) {
  if ($("vocabulary").value === name) return;
  $("vocabulary").value = name;
  $("vocabulary").dispatchEvent(new Event("change"));
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
  known.clear();
  for (const facts of found) known.set(facts.name, facts);
  tell();
}

function tell() {
  showChoice();
  for (const listener of subscribers) listener();
}

function plan() {
  clearTimeout(state.timer);
  if (!state.isStarted) return;
  const looked = [$("vocabulary").value, ...watched].map(factsOf);
  state.timer = setTimeout(quietly, looked.some(isEncoding) ? ENCODING_MS : IDLE_MS);
}

function quietly() {
  if (document.visibilityState === "visible") refresh().catch(() => {}); // shown by `offline`
}

function showChoice() {
  const chosen = $("vocabulary").value;
  const sorted = [...known.values()].sort((one, other) => (one.name < other.name ? -1 : 1));
  const choices = new Map([...$("vocabulary").options].map((choice) => [choice.value, choice]));
  arrange($("vocabulary"), sorted.map((facts) => choiceOf(facts, choices.get(facts.name))));
  if (known.has(chosen)) return;
  $("vocabulary").value = sorted.find((facts) => facts.is_default)?.name ?? "";
  if (chosen) $("vocabulary").dispatchEvent(new Event("change"));
}

function choiceOf(facts, choice = element("option")) {
  const text = `${facts.name} (${count(facts.num_labels, "label")}${isEncoding(facts) ? ", being encoded" : ""})`;
  if (choice.textContent !== text) choice.textContent = text;
  choice.value = facts.name;
  return choice;
}
