// The segments of a timeline as CSV, SubRip or WebVTT, as `actserve timeline` writes them.
import { toCsv } from "./save.js";

const COLUMNS = ["label", "start_seconds", "end_seconds", "start_frame", "end_frame", "score", "peak_seconds"];

export function segmentsAsCsv(segments) {
  return toCsv([COLUMNS, ...segments.map((segment) => COLUMNS.map((column) => segment[column]))]);
}

export function segmentsAsSrt(segments) {
  return segments.map((segment, index) => `${index + 1}\n${times(segment, ",")}\n${line(segment.label)}\n\n`).join("");
}

export function segmentsAsVtt(segments) {
  const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  return `WEBVTT\n\n${segments.map((segment) => `${times(segment, ".")}\n${escaped(line(segment.label))}\n\n`).join("")}`;
}

function times({ start_seconds: start, end_seconds: end }, separator) {
  return `${time(start, separator)} --> ${time(end, separator)}`;
}

function time(seconds, separator) {
  const all = Math.round(seconds * 1000);
  const parts = [Math.floor(all / 3_600_000), Math.floor(all / 60_000) % 60, Math.floor(all / 1000) % 60];
  return `${parts.map((part) => String(part).padStart(2, "0")).join(":")}${separator}${String(all % 1000).padStart(3, "0")}`;
}

// An empty line would end a cue.
function line(label) {
  return label.split(/\s+/).filter(Boolean).join(" ");
}
