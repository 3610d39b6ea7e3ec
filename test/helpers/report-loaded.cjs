// Required before a program: writes which modules of Node's and which files it loaded to the file that DYLORA_TEST_LOADED names.
"use strict";
const { writeFileSync } = require("node:fs");

process.on("exit", () => {
  const builtIn = process.moduleLoadList.flatMap((entry) => {
    const [kind, ...name] = entry.split(" ");
    return kind === "NativeModule" ? [name.join(" ")] : [];
  });
  const files = Object.keys(require.cache).filter((file) => file !== __filename);
  writeFileSync(process.env.DYLORA_TEST_LOADED, JSON.stringify({ builtIn, files }));
});
