// Saves content as a file of the user.

const LATER_MS = 60_000;

export function saveFile(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), LATER_MS);
}

export function saveText(text, name, type = "text/plain") {
  saveFile(new Blob([text], { type: `${type};charset=utf-8` }), name);
}

// Returns a CSV table; text that a spreadsheet would run as a formula gets an apostrophe in front.
export function toCsv(rows) {
  return rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";
}

function cell(value) {
  if (typeof value === "number") return String(value);
  const text = String(value ?? "");
  const safe = /^'*[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
