/** The idea the project exists for: ranks drawn while training, factors truncated to them, one scale rule. */
export * from "./network-args.js";
export * from "./rank-plan.js";
