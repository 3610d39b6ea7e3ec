import { EventEmitter } from "node:events";
import { expect, test } from "vitest";
import { listenForInterrupts, type SignalSource } from "./interrupt.js";

class FakeProcess extends EventEmitter implements SignalSource {
  readonly exits: number[] = [];

  exit(status: number): void {
    this.exits.push(status);
  }
}

test("the first signal asks to stop, the second one ends the process", () => {
  const source = new FakeProcess();
  const said: string[] = [];
  const { signal } = listenForInterrupts(() => said.push("stopping"), source);
  expect(signal.aborted).toBe(false);
  source.emit("SIGINT");
  expect(signal.aborted).toBe(true);
  expect(source.exits).toEqual([]);
  source.emit("SIGTERM");
  expect(source.exits).toEqual([130]);
  expect(said).toEqual(["stopping"]);
});

test("a disposed listener hears nothing", () => {
  const source = new FakeProcess();
  const { signal, dispose } = listenForInterrupts(() => {}, source);
  dispose();
  source.emit("SIGINT");
  expect(signal.aborted).toBe(false);
  expect(source.eventNames()).toEqual([]);
});
