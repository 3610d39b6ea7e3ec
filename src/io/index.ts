/** Files and folders: atomic writes, and operating system errors in words. */
export * from "./abort.js";
export * from "./atomic-folder.js";
export * from "./atomic-write.js";
export * from "./file-error.js";
export * from "./positional-file.js";
export * from "./sha256.js";
