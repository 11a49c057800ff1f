// What can be kept of verdicts: JSON as the service gives it, and a table.

// As `qad-jax detect --csv` has them.
const COLUMNS = ["file", "sha256", "verdict", "probability", "quality", "reason"];

/** Lets the browser save a text under a name. */
export function save(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** The table of some verdicts, as CSV. */
export function csv(verdicts) {
  const lines = verdicts.map((verdict) => COLUMNS.map((name) => cell(verdict[name])).join(","));
  return [COLUMNS.join(","), ...lines, ""].join("\n");
}

// A spreadsheet would run a name that begins so as a formula. As data_builders.files.marked.
const FORMULA = /(^|[;\t\r\n])(?='*[=+\-@\uFF1D\uFF0B\uFF0D\uFF20])/g;
const NUMBER = /^[-+]?[0-9]+([.,][0-9]+)?([eE][-+]?[0-9]+)?$/;

function marked(text) {
  return NUMBER.test(text) ? text : text.replace(FORMULA, "$1'");
}

function cell(value) {
  if (value === null) return "";
  let text = String(value);
  if (typeof value === "string") text = marked(text);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
