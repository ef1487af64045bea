// Label lists as text, with the grammar of serve/text/label_lists.py; one table of cases tests both.
import { t } from "./i18n.js";

const LINE_BREAKS = "\n\r\x85\u2028\u2029";
const SEPARATORS = ",;，；、､،؛﹐﹑﹔";
const CLOSING = {
  '"': '"', "'": "'", "“": "”", "”": "”", "„": "“”", "‘": "’", "‚": "‘’",
  "«": "»", "»": "«", "‹": "›", "›": "‹", "「": "」", "『": "』", "＂": "＂",
};
const ESCAPABLE = SEPARATORS + "\\[" + Object.entries(CLOSING).flat().join("");
const REFERENCE = /&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});/y;
const LINES = /\r\n|[\n\r\x85\u2028\u2029]/;

// The text is not a label list; shown like a problem of the server.
export class LabelListError extends Error {
  get problem() {
    return { title: t("labels.unreadable"), detail: this.message };
  }
}

// Returns the labels of a text, separated by separators and line breaks.
export function parseList(text) {
  if (!isJson(text)) return new Reader(text, SEPARATORS).items();
  let found;
  try {
    found = JSON.parse(trimmed(text));
  } catch (error) {
    const advice = "write \\[ for a label that starts with it";
    throw new LabelListError(`the text starts with [ and cannot be read as a JSON list: ${error.message}; ${advice}`);
  }
  const wrong = found.findIndex((item) => typeof item !== "string");
  if (wrong >= 0) throw new LabelListError(`item ${wrong} of the JSON list is not a string`);
  return found;
}

// Returns the labels of a document: one per line, or several on a single line.
export function parseDocument(text) {
  const lines = text.split(LINES).filter((line) => trimmed(line));
  return lines.length < 2 || isJson(text) ? parseList(text) : new Reader(text, "").items();
}

// Writes one label per line, quoted if needed to be read back unchanged.
export function writeDocument(labels) {
  return labels.map(quoted).join("\n");
}

function quoted(label) {
  const isSplit = [...label].some((letter) => SEPARATORS.includes(letter) || letter === "\\");
  if (label && label === trimmed(label) && !isSplit && label[0] !== "[" && !(label[0] in CLOSING)) return label;
  return `"${label.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}

function isJson(text) {
  return trimmed(text).startsWith("[");
}

function trimmed(text) {
  return text.replace(/^[\s\ufeff\x85]+|[\s\ufeff\x85]+$/g, "");
}

function isWhite(letter) {
  return /[\s\x85]/.test(letter) && letter !== "\ufeff";
}

// Decodes an HTML character reference with the browser: at most two code units.
function referenceAt(text, at) {
  REFERENCE.lastIndex = at;
  const found = REFERENCE.exec(text)?.[0];
  if (!found || found[1] === "#") return found;
  const area = document.createElement("textarea");
  area.innerHTML = found;
  return area.value.length <= 2 ? found : undefined;
}

class Reader {
  constructor(text, separators) {
    this.text = text.replace(/^\ufeff/, "");
    this.separators = separators;
    this.at = 0;
  }

  items() {
    const found = [];
    this.skipBlank();
    while (this.at < this.text.length) {
      if (this.separators.includes(this.text[this.at])) {
        this.fail(`label ${found.length} is empty: there is nothing before this separator`, this.at);
      }
      found.push(this.text[this.at] in CLOSING ? this.quoted() : this.plain());
      this.skipSeparator();
    }
    return found;
  }

  plain() {
    let letters = "";
    while (this.at < this.text.length && !this.endsItem()) letters += this.next();
    return trimmed(letters);
  }

  quoted() {
    const start = this.at;
    const closing = CLOSING[this.text[start]];
    let letters = "";
    this.at += 1;
    while (this.at < this.text.length && !LINE_BREAKS.includes(this.text[this.at])) {
      const letter = this.text[this.at];
      if (!closing.includes(letter)) {
        letters += this.next();
        continue;
      }
      this.at += 1;
      if (this.text[this.at] !== letter) {
        this.requireEnd(start);
        return letters;
      }
      letters += letter;
      this.at += 1;
    }
    return this.fail(`the quote ${this.text[start]} is not closed before the end of its line`, start);
  }

  requireEnd(start) {
    while (this.at < this.text.length && isWhite(this.text[this.at]) && !this.endsItem()) this.at += 1;
    if (this.at >= this.text.length || this.endsItem()) return;
    const quote = this.text[start];
    const advice = `write \\${quote} for a quote that belongs to a label`;
    this.fail(`text follows the closing quote of the label that starts with ${quote}; ${advice}`, this.at);
  }

  // Returns the next character or character reference, with escapes resolved.
  next() {
    const [letter, second] = [this.text[this.at], this.text[this.at + 1]];
    if (letter === "\\" && second && ESCAPABLE.includes(second)) {
      this.at += 2;
      return second;
    }
    const taken = (letter === "&" && referenceAt(this.text, this.at)) || letter;
    this.at += taken.length;
    return taken;
  }

  endsItem() {
    return LINE_BREAKS.includes(this.text[this.at]) || this.separators.includes(this.text[this.at]);
  }

  skipSeparator() {
    this.skipBlank();
    if (this.at < this.text.length && this.separators.includes(this.text[this.at])) {
      this.at += 1;
      this.skipBlank();
    }
  }

  skipBlank() {
    while (this.at < this.text.length && isWhite(this.text[this.at])) this.at += 1;
  }

  // Counts code points, like the server.
  fail(message, at) {
    const lines = this.text.slice(0, at).split(LINES);
    throw new LabelListError(`line ${lines.length}, character ${[...lines.at(-1)].length + 1}: ${message}`);
  }
}
