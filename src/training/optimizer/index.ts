export * from "./adamw.js";
export * from "./create-optimizer.js";
export * from "./gradients.js";
export * from "./lion.js";
export * from "./optimizer.js";
export * from "./sgd-nesterov.js";
