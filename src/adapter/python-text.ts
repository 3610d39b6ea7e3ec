/** Values as Python prints them: sd-scripts' metadata is Python's `str()` and `json.dumps()`, and its readers expect it. */

/** `str(value)` of a bool, an int, a str or None. */
export function pythonStr(value: string | number | boolean | null): string {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  return String(value);
}

/** `str(value)` of a float: `1.0`, `0.0001`, `1e-05`. */
export function pythonFloat(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  // Both languages print the shortest digits that read back as the same number; only the notation differs.
  const [mantissa, exponentText] = value.toExponential().split("e") as [string, string];
  const exponent = Number(exponentText);
  if (exponent < -4 || exponent >= 16) {
    const digits = String(Math.abs(exponent)).padStart(2, "0");
    return `${Object.is(value, -0) ? "-0.0" : mantissa}e${exponent < 0 ? "-" : "+"}${digits}`;
  }
  if (Object.is(value, -0)) return "-0.0";
  const digits = Math.max(1, mantissa.replace(/[-.]/g, "").length - 1 - exponent);
  return value.toFixed(digits);
}

/** `json.dumps(value)`: a space behind colons and commas, nothing beyond ASCII. */
export function pythonJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(pythonJson).join(", ")}]`;
  if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value).map(([key, item]) => `${pythonJson(key)}: ${pythonJson(item)}`);
    return `{${entries.join(", ")}}`;
  }
  return JSON.stringify(value).replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
