import { readFileSync } from "node:fs";

// "-0x1.8p+1": the digits as one whole number, times a power of two
function number(text) {
  if (typeof text !== "string") return Number(text);
  if (!text.includes("0x")) return { nan: NaN, inf: Infinity, "-inf": -Infinity }[text];
  const [, sign, whole, digits, power] = /^(-?)0x(.)\.(.*)p(.*)$/.exec(text);
  return Number("0x" + whole + digits) * 2 ** (power - 4 * digits.length) * (sign ? -1 : 1);
}
const decode = (v) =>
  typeof v === "object" ? { ...v, data: v.data.map(number) } : typeof v === "string" ? number(v) : v;
const all = (values = {}) =>
  Object.fromEntries(Object.entries(values).map(([name, v]) => [name, decode(v)]));
export const load = (path) => JSON.parse(readFileSync(path, "utf8")).vectors.map(
  (v) => ({ ...v, arguments: all(v.arguments), answers: all(v.answers), bounds: all(v.bounds) }));
