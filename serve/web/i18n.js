// Texts of the page in the chosen language. Each language has one file with the same keys.
import { computed, effect, signal } from "./lib.js";
import en from "./messages/en.js";
import zh from "./messages/zh.js";
import { readStored, store } from "./storage.js";

const KEY = "actserve-language";
const MESSAGES = { en, zh };
export const LANGUAGES = { en: "English", zh: "中文" };
export const language = signal(initial());
const locale = computed(() => (language.value === "zh" ? "zh-CN" : "en"));

export function setLanguage(chosen) {
  language.value = chosen;
  store(KEY, chosen);
}

// Returns a text with its {parameters}; texts with plural forms choose by `count`.
export function t(key, parameters = {}) {
  const found = MESSAGES[language.value][key];
  if (found === undefined) throw new Error(`there is no text ${key} in ${language.value}`);
  const text = typeof found === "string" ? found : pluralForm(found, parameters.count);
  return text.replace(/\{(\w+)\}/g, (_, name) => display(parameters[name], key));
}

export function number(value, digits) {
  const fixed = digits === undefined ? {} : { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return value.toLocaleString(locale.value, fixed);
}

export function percent(share) {
  return `${(share * 100).toFixed(1)} %`;
}

export function bytes(size) {
  const [unit, scale] = size < 1e6 ? ["kB", 1e3] : size < 1e9 ? ["MB", 1e6] : ["GB", 1e9];
  return `${(size / scale).toFixed(size < 1e6 ? 0 : 2)} ${unit}`;
}

export function moment(text) {
  return new Intl.DateTimeFormat(locale.value, { dateStyle: "medium", timeStyle: "short" }).format(new Date(text));
}

// Formats seconds as 1:02:03.4.
export function clock(seconds) {
  const tenths = Math.round(seconds * 10);
  const [hours, minutes, rest] = [Math.floor(tenths / 36_000), Math.floor(tenths / 600) % 60, tenths % 600];
  const short = `${(rest / 10).toFixed(1).padStart(4, "0")}`;
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${short}` : `${minutes}:${short}`;
}

// Sets the texts of static parts: data-t names the text, data-t-placeholder and such the texts of attributes.
export function translateStatic() {
  const roots = [document, ...[...document.querySelectorAll("template")].map((template) => template.content)];
  effect(() => {
    document.documentElement.lang = locale.value;
    for (const root of roots) translate(root);
  });
}

function translate(root) {
  for (const part of root.querySelectorAll("[data-t]")) part.textContent = t(part.dataset.t);
  for (const name of ["placeholder", "title", "aria-label"]) {
    for (const part of root.querySelectorAll(`[data-t-${name}]`)) {
      part.setAttribute(name, t(part.getAttribute(`data-t-${name}`)));
    }
  }
}

function pluralForm(forms, count) {
  return forms[new Intl.PluralRules(locale.value).select(count)] ?? forms.other;
}

function display(value, key) {
  if (value === undefined) throw new Error(`the text ${key} has a parameter without a value`);
  return typeof value === "number" ? number(value) : String(value ?? "");
}

function initial() {
  const stored = readStored(KEY);
  if (stored in MESSAGES) return stored;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}
