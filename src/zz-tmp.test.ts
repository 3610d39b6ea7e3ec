import { test } from "vitest";
import { sd15Modules, writeRandomAdapter } from "/work/main/test/helpers/random-adapter.js";
import { inspectAdapter } from "/work/main/src/surgery/index.js";
test("x", async () => {
  await writeRandomAdapter("/tmp/big/r128.safetensors", { modules: sd15Modules(128), metadata: {ss_network_module:"networks.dylora", ss_network_args:'{"unit":"8"}'}, hashes: true });
  let t = performance.now(); await inspectAdapter("/tmp/big/r128.safetensors"); console.log("header", performance.now()-t);
  t = performance.now(); await inspectAdapter("/tmp/big/r128.safetensors", {norms:true}); console.log("norms", performance.now()-t);
  t = performance.now(); await inspectAdapter("/tmp/big/r128.safetensors", {verifyHash:true}); console.log("hash", performance.now()-t);
});
