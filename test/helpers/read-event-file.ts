/**
 * Reads TensorBoard's event files from their specification alone: TFRecord framing (length, its masked CRC-32C, data, their
 * masked CRC-32C; tensorflow/core/lib/io/record_writer.h), and protocol buffers' wire format for the fields of
 * tensorflow/core/util/event.proto. Shares no code with the writer.
 */

import { readFileSync } from "node:fs";

export interface LoggedEvent {
  readonly wallTime: number;
  readonly step: number;
  /** `brain.Event:2` in the first event of a file. */
  readonly fileVersion: string | null;
  /** 1: START, from which on TensorBoard drops what older files hold. */
  readonly sessionStatus: number | null;
  readonly scalars: Readonly<Record<string, number>>;
}

/** @throws {Error} for a record that is cut off or whose checksum does not fit */
export function readEventFile(path: string): LoggedEvent[] {
  return readEvents(readFileSync(path));
}

export function readEvents(bytes: Uint8Array): LoggedEvent[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const events: LoggedEvent[] = [];
  for (let at = 0; at < bytes.length; ) {
    if (at + 12 > bytes.length) throw new Error(`record at ${at}: cut off`);
    check(bytes.subarray(at, at + 8), view.getUint32(at + 8, true), `length of the record at ${at}`);
    const length = Number(view.getBigUint64(at, true));
    const end = at + 12 + length;
    if (end + 4 > bytes.length) throw new Error(`record at ${at}: cut off`);
    const data = bytes.subarray(at + 12, end);
    check(data, view.getUint32(end, true), `data of the record at ${at}`);
    events.push(eventOf(data));
    at = end + 4;
  }
  return events;
}

function check(bytes: Uint8Array, masked: number, what: string): void {
  const rotated = (masked + 0x1_0000_0000 - 0xa282ead8) % 0x1_0000_0000;
  const expected = ((rotated << 15) | (rotated >>> 17)) >>> 0;
  if (castagnoli(bytes) !== expected) throw new Error(`${what}: checksum does not fit`);
}

/** CRC-32C by long division, bit by bit: RFC 3720, 12.1, with reflected input and output. */
export function castagnoli(bytes: Uint8Array): number {
  let remainder = 0xffffffff;
  for (const byte of bytes) {
    for (let bit = 0; bit < 8; bit++) {
      const carry = (remainder ^ (byte >>> bit)) & 1;
      remainder = (remainder >>> 1) ^ (carry === 1 ? 0x82f63b78 : 0);
    }
  }
  return ~remainder >>> 0;
}

function eventOf(message: Uint8Array): LoggedEvent {
  const event = {
    wallTime: 0,
    step: 0,
    fileVersion: null as string | null,
    sessionStatus: null as number | null,
  };
  const scalars: Record<string, number> = {};
  for (const { field, number, bytes } of fieldsOf(message)) {
    if (field === 1) event.wallTime = doubleOf(bytes);
    if (field === 2) event.step = number;
    if (field === 3) event.fileVersion = textOf(bytes);
    if (field === 7) event.sessionStatus = fieldsOf(bytes).find((entry) => entry.field === 1)!.number;
    if (field === 5) {
      for (const value of fieldsOf(bytes).filter((entry) => entry.field === 1)) {
        const parts = fieldsOf(value.bytes);
        const tag = textOf(parts.find((entry) => entry.field === 1)!.bytes);
        scalars[tag] = floatOf(parts.find((entry) => entry.field === 2)!.bytes);
      }
    }
  }
  return { ...event, scalars };
}

interface Field {
  readonly field: number;
  /** Of a varint. */
  readonly number: number;
  /** Of everything else. */
  readonly bytes: Uint8Array;
}

function fieldsOf(message: Uint8Array): Field[] {
  const fields: Field[] = [];
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = message[at++]!;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.length) {
    const key = varint();
    const [field, wireType] = [Math.floor(key / 8), key % 8];
    if (wireType === 0) {
      fields.push({ field, number: varint(), bytes: new Uint8Array() });
      continue;
    }
    const sizes: Readonly<Record<number, () => number>> = { 1: () => 8, 2: varint, 5: () => 4 };
    const size = sizes[wireType];
    if (size === undefined) throw new Error(`wire type ${wireType} of field ${field}`);
    const length = size();
    fields.push({ field, number: Number.NaN, bytes: message.subarray(at, at + length) });
    at += length;
  }
  return fields;
}

function textOf(bytes: Uint8Array): string {
  return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
}

function doubleOf(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getFloat64(0, true);
}

function floatOf(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getFloat32(0, true);
}
