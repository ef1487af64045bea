// The author of edits: a name stored in this browser and sent as X-Author.
import { $ } from "./dom.js";
import { moment, t } from "./i18n.js";
import { hasKey } from "./key.js";

const KEY = "actserve-author";

export function wireAuthor() {
  try {
    $("author").value = localStorage.getItem(KEY) ?? "";
    $("author").addEventListener("input", () => localStorage.setItem(KEY, $("author").value.trim()));
  } catch {
    // without storage, the name is lost when the page is closed
  }
}

// Headers are bytes, so names that are not Latin-1 are sent as UTF-8. With a key, the author is the name of the key.
export function authorHeader() {
  if (hasKey()) return {};
  const name = $("author").value.trim();
  return name ? { "X-Author": String.fromCharCode(...new TextEncoder().encode(name)) } : {};
}

export function authorOf(facts) {
  const bytes = Uint8Array.from(facts.author, (character) => character.charCodeAt(0));
  if ([...facts.author].some((character) => character.codePointAt(0) > 255)) return facts.author;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes) || t("author.unknown");
  } catch {
    return facts.author;
  }
}

export function timeOf(facts) {
  const made = document.createElement("time");
  made.dateTime = facts.created_at;
  made.textContent = moment(facts.created_at);
  return made;
}
