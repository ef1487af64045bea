// Labels from files: JSON, CSV (`name,synonyms,negatives`, phrases separated by `|`), plain text (a label list).
import { parseDocument } from "./label_lists.js";

const WORD_EDGES = /(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_/;
const CSV_DELIMITERS = ",;\t，";
export const LABEL_FILE = /\.(txt|csv|json)$/i;

// Reads a vocabulary from a file, in the form of PUT; throws an Error if it cannot be read.
export async function readLabelFile(file) {
  const text = decoded(await file.arrayBuffer());
  const kind = LABEL_FILE.exec(file.name)?.[1].toLowerCase() ?? "txt";
  const found = { txt: fromLines, csv: fromCsv, json: fromJson }[kind](text);
  if (!found.labels.length) throw new Error("it has no labels");
  return found;
}

// Splits a class name into words: `ApplyEyeMakeup` -> `apply eye makeup`, `brush_hair` -> `brush hair`.
export function splitName(name) {
  if (name.trim().includes(" ")) return name.trim();
  const words = name.split(WORD_EDGES).filter(Boolean);
  return words.map((word) => (isUpper(word) && word.length > 1 ? word : word.toLowerCase())).join(" ");
}

export function withSplitNames(labels) {
  return labels.map((label) =>
    typeof label === "string" ? splitName(label) : { ...label, name: splitName(label.name) },
  );
}

function isUpper(word) {
  return word === word.toUpperCase() && word !== word.toLowerCase();
}

function decoded(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Error("the text is not valid UTF-8");
  }
}

function fromLines(text) {
  return { labels: parseDocument(text) };
}

function fromJson(text) {
  const found = parsed(text);
  const labels = Array.isArray(found) ? found : found?.labels;
  if (!Array.isArray(labels)) throw new Error("the JSON must be a list of labels, or an object with `labels`");
  const wrong = labels.findIndex((label) => typeof label !== "string" && typeof label?.name !== "string");
  if (wrong >= 0) throw new Error(`label ${wrong} of the JSON must be a string or an object with a name`);
  return Array.isArray(found) ? { labels } : found;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`the JSON cannot be read: ${error.message}`);
  }
}

function fromCsv(text) {
  const header = text.trimStart().split("\n", 1)[0];
  const delimiter = [...CSV_DELIMITERS].find((letter) => header.includes(letter)) ?? ",";
  const [head, ...rows] = csvRows(text, delimiter);
  const columns = Object.fromEntries((head ?? []).map((name, index) => [name.trim(), index]));
  if (!("name" in columns)) throw new Error(`the CSV must have a column \`name\`, got ${head?.join(", ") || "none"}`);
  const phrases = (row, column) => (row[columns[column]] ?? "").split("|").map((one) => one.trim()).filter(Boolean);
  const filled = rows.filter((row) => row.length > 1 || row[0] !== "");
  const long = filled.findIndex((row) => row.slice(head.length).some((cell) => cell.trim()));
  if (long >= 0) throw new Error(`row ${long + 2} has more cells than the header; quote cells that contain ${delimiter}`);
  return {
    labels: filled.map((row) => ({
      name: row[columns.name] ?? "",
      synonyms: phrases(row, "synonyms"),
      negatives: phrases(row, "negatives"),
    })),
  };
}

// RFC 4180: a quoted cell may contain commas, line breaks and doubled quotes.
function csvRows(text, delimiter) {
  const rows = [];
  let row = [];
  const cells = new RegExp(`(?:"((?:[^"]|"")*)"|([^"${delimiter}\\r\\n]*))(${delimiter}|\\r\\n|\\n|\\r|$)`, "y");
  while (cells.lastIndex < text.length || row.length) {
    const at = cells.lastIndex;
    const found = cells.exec(text);
    if (!found) throw new Error(`the CSV cannot be read at line ${text.slice(0, at).split("\n").length}`);
    row.push(found[1] === undefined ? found[2] : found[1].replaceAll('""', '"'));
    if (found[3] !== delimiter) {
      rows.push(row);
      row = [];
    }
    if (found[3] === "") break;
  }
  return rows;
}
