// The request of an action as a curl command and as Python code.
import { t } from "../i18n.js";
import { isKeyStored } from "../key.js";
import { html, useState } from "../lib.js";

const KEY_VARIABLE = "ACTSERVE_API_KEY";

// `request`: {method, path} with `json`, or with `file` or `files`, form `fields` and `options`; null if the labels cannot be parsed.
export function RequestCode({ request }) {
  const [copied, setCopied] = useState("");
  if (!request) return null;
  const forms = { curl: curlOf(request), python: pythonOf(request) };
  const copy = async (name) => {
    await navigator.clipboard.writeText(forms[name]);
    setCopied(name);
  };
  return html`<details id="request" class="request">
    <summary>${t("request.summary")}</summary>
    ${Object.entries(forms).map(
      ([name, text]) => html`<div class="code">
        <div class="bar"><span class="hint">${t(`request.${name}`)}</span>
          <button id=${`copy-${name}`} type="button" class="quiet" onClick=${() => copy(name)}>
            ${copied === name ? t("copied") : t("copy")}
          </button>
        </div>
        <pre id=${name} tabindex="0" aria-label=${t(`request.${name}`)}>${text}</pre>
      </div>`,
    )}
  </details>`;
}

export function curlOf({ method = "POST", path, json, file, files = file ? [file] : [], fields = {}, options, headers = {} }) {
  const parts = method === "GET" || (method === "POST" && (json || files.length)) ? ["curl"] : [`curl -X ${method}`];
  if (isKeyStored.value) parts.push(`-H "Authorization: Bearer $${KEY_VARIABLE}"`);
  for (const [name, value] of Object.entries(headers)) parts.push(`-H ${quoted(`${name}: ${value}`)}`);
  for (const { name } of files) parts.push(`-F ${quoted(`video=@"${escapedName(name)}"`)}`);
  for (const [name, value] of Object.entries(fields)) parts.push(`--form-string ${quoted(`${name}=${value}`)}`);
  if (options) parts.push(`--form-string ${quoted(`options=${JSON.stringify(options)}`)}`);
  if (json) parts.push("-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(json))}`);
  return [...parts, quotedIfNeeded(new URL(path, document.baseURI).href)].join(" \\\n  ");
}

export function pythonOf({ method = "POST", path, json, file, files = file ? [file] : [], fields = {}, options, headers = {} }) {
  const key = isKeyStored.value ? { Authorization: `f"Bearer {os.environ['${KEY_VARIABLE}']}"` } : {};
  const sent = [...Object.entries(key), ...Object.entries(headers).map(([name, value]) => [name, JSON.stringify(value)])];
  const values = [JSON.stringify(new URL(path, document.baseURI).href)];
  if (files.length) values.push(`files=[${files.map(({ name }) => `("video", open(${JSON.stringify(name)}, "rb"))`).join(", ")}]`);
  const data = Object.entries(fields).map(([name, value]) => `${JSON.stringify(name)}: ${JSON.stringify(value)}`);
  if (options) data.push(`"options": json.dumps(${literal(options)})`);
  if (data.length) values.push(`data={${data.join(", ")}}`);
  if (json) values.push(`json=${literal(json)}`);
  if (sent.length) values.push(`headers={${sent.map(([name, value]) => `${JSON.stringify(name)}: ${value}`).join(", ")}}`);
  values.push("timeout=600");
  const call = `httpx.${method.toLowerCase()}(\n${values.map((value) => `    ${value},\n`).join("")})`;
  const imports = [options && "import json", isKeyStored.value && "import os"].filter(Boolean);
  const ending = "response.raise_for_status()\nprint(response.text)";
  return [...imports, imports.length ? "\nimport httpx" : "import httpx", "", `response = ${call}`, ending].join("\n");
}

// Returns a JSON value as a Python literal.
function literal(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${literal(item)}`).join(", ")}}`;
}

function escapedName(name) {
  return name.replaceAll("\\", "\\\\").replaceAll('"', '\\"');
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function quotedIfNeeded(address) {
  return /^[\w:/.%@-]+$/.test(address) ? address : quoted(address);
}
