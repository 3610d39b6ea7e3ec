import { expect, test } from "vitest";
import { printable, printableLines } from "./printable.js";

test.each([
  ["lora_unet_mid", "lora_unet_mid"],
  ["Katze, 猫, 🐈", "Katze, 猫, 🐈"],
  ["a\tb\r\nc", "a\\tb\\r\\nc"],
  ["\u001b[2J\u0007", "\\u001b[2J\\u0007"],
  ["\u009b31m", "\\u009b31m"],
])("%j", (text, shown) => expect(printable(text)).toBe(shown));

test("our own line breaks stay", () => {
  expect(printableLines("first\n  second\u001b")).toBe("first\n  second\\u001b");
});
