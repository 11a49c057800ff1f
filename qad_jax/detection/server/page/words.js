// The texts of the page, all of which are in texts.json, and numbers as the language writes them.

let texts = {};

/** Reads the texts, and tells the browser their language and direction. */
export async function load() {
  texts = await (await fetch("static/texts.json")).json();
  document.documentElement.lang = texts.lang;
  document.documentElement.dir = texts.dir;
  document.title = texts.title;
  for (const element of document.querySelectorAll("[data-text]"))
    element.textContent = texts[element.dataset.text];
}

/** A text, with `{name}` filled by the field of that name. A field `count` chooses the plural. */
export function say(key, fields = {}) {
  let text = texts[key];
  if (typeof text === "object" && !Array.isArray(text)) {
    const kind = new Intl.PluralRules(texts.lang).select(fields.count);
    text = (fields.count === 0 && text.zero) || text[kind] || text.other;
  }
  if (typeof text !== "string") return text;
  return text.replace(/\{(\w+)\}/g, (whole, name) => fields[name] ?? whole);
}

/** A number as the language writes it. */
export function number(value, options = {}) {
  return new Intl.NumberFormat(texts.lang, options).format(value);
}

/** A number of bytes, in the unit that fits. */
export function bytes(count) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, count)) / 3));
  return number(count / 1000 ** power, {
    style: "unit", unit: units[power], unitDisplay: power ? "short" : "long",
    maximumFractionDigits: power ? 1 : 0,
  });
}

/** A time, roughly: in seconds, minutes or hours. */
export function duration(seconds) {
  const [size, unit] = seconds < 100 ? [1, "second"] : seconds < 3600 ? [60, "minute"] : [3600, "hour"];
  const count = Math.max(1, size < 3600 ? Math.round(seconds / size) : seconds / size);
  return number(count, { style: "unit", unit, unitDisplay: "long", maximumFractionDigits: 1 });
}

/** The name of a file, without characters that turn or hide others. */
export function plain(name) {
  return name.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, "\uFFFD");
}
