// Requests for one vocabulary. A change contains its author and the version that it is based on.
import { getJson, send } from "./api.js";
import { authorHeader } from "./author.js";

const WAIT_SECONDS = 2; // after that, encoding continues and the list shows its progress

export function read(name, version) {
  return getJson(address(version ? `${name}@${version}` : name));
}

export function create(name, document) {
  return change("PUT", address(name), document, { "If-None-Match": "*" });
}

export function replace(name, version, document) {
  return change("PUT", address(name), document, ifMatch(version));
}

export function patch(name, version, changes) {
  return change("PATCH", address(name), changes, ifMatch(version));
}

export function rollBack(name, version, wanted) {
  return change("POST", address(name, ":rollback"), { version: wanted }, ifMatch(version));
}

export function erase(name, version) {
  return send("DELETE", address(name), { headers: ifMatch(version) });
}

export function versions(name, { token, size }) {
  const query = new URLSearchParams({ page_size: size, ...(token ? { page_token: token } : {}) });
  return getJson(`${address(name, "/versions")}?${query}`);
}

export function diff(name, from, to) {
  return getJson(`${address(name, ":diff")}?from=${from}&to=${to}`);
}

export function exportAddress(name, version, format) {
  return `${address(`${name}@${version}`, ":export")}?format=${format}`;
}

export function address(name, rest = "") {
  return `v1/vocabularies/${encodeURIComponent(name)}${rest}`;
}

export function ifMatch(version) {
  return { "If-Match": `"${version}"` };
}

// `precondition`: condition of the change.
export function changeHeaders(precondition) {
  return { Prefer: `wait=${WAIT_SECONDS}`, ...precondition, ...authorHeader() };
}

function change(method, path, document, precondition) {
  const headers = { "Content-Type": "application/json", ...changeHeaders(precondition) };
  return send(method, path, { headers, body: JSON.stringify(document) });
}
