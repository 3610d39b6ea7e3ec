/**
 * TensorBoard's event files: TFRecords (tensorflow/core/lib/io/record_writer.h) of Event messages
 * (tensorflow/core/util/event.proto), field numbers as there.
 */

import { closeSync, mkdirSync, openSync, writeSync } from "node:fs";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { writeError } from "../io/index.js";
import { crc32c } from "./crc32c.js";

/** Added to the rotated checksum, so that a record that holds records does not check itself. */
const MASK_DELTA = 0xa282ead8;
/** `SessionLog.START`: what lies behind this step in older files of the folder was taken back. */
const SESSION_START = 1;

export class EventFile {
  readonly path: string;
  #descriptor: number | null;

  /**
   * Starts a file in `folder`, which is made where it is missing.
   *
   * @param step - steps done before; TensorBoard drops what older files of the folder hold behind it
   * @throws {DyloraError} `E_WRITE`
   */
  constructor(folder: string, step: number, now: Date = new Date()) {
    const seconds = Math.floor(now.getTime() / 1000);
    this.path = join(
      folder,
      `events.out.tfevents.${String(seconds).padStart(10, "0")}.${hostname()}.${process.pid}`,
    );
    try {
      mkdirSync(dirname(this.path), { recursive: true });
      this.#descriptor = openSync(this.path, "a");
    } catch (cause) {
      throw writeError(this.path, cause, { note: "Choose another --logging_dir." });
    }
    this.#write(now, step, (event) => event.tag(3, WireType.LengthDelimited).string("brain.Event:2"));
    this.#write(now, step, (event) => {
      event.tag(7, WireType.LengthDelimited).fork().tag(1, WireType.Varint).int32(SESSION_START).join();
    });
  }

  /** Adds numbers by tag at a step. */
  scalars(step: number, values: Readonly<Record<string, number>>, now: Date = new Date()): void {
    this.#write(now, step, (event) => {
      event.tag(5, WireType.LengthDelimited).fork();
      for (const [tag, value] of Object.entries(values)) {
        event.tag(1, WireType.LengthDelimited).fork();
        event.tag(1, WireType.LengthDelimited).string(tag).tag(2, WireType.Bit32).float(value);
        event.join();
      }
      event.join();
    });
  }

  close(): void {
    if (this.#descriptor !== null) closeSync(this.#descriptor);
    this.#descriptor = null;
  }

  #write(now: Date, step: number, build: (event: BinaryWriter) => void): void {
    if (this.#descriptor === null) return;
    const event = new BinaryWriter();
    event.tag(1, WireType.Bit64).double(now.getTime() / 1000);
    event.tag(2, WireType.Varint).int64(step);
    build(event);
    try {
      const record = frame(event.finish());
      for (let done = 0; done < record.length; ) done += writeSync(this.#descriptor, record, done);
    } catch (cause) {
      throw writeError(this.path, cause, { note: "The records before are whole." });
    }
  }
}

/** Length, its checksum, data, their checksum. */
function frame(data: Uint8Array): Uint8Array {
  const record = new Uint8Array(12 + data.length + 4);
  const view = new DataView(record.buffer);
  view.setBigUint64(0, BigInt(data.length), true);
  view.setUint32(8, maskedChecksum(record.subarray(0, 8)), true);
  record.set(data, 12);
  view.setUint32(12 + data.length, maskedChecksum(data), true);
  return record;
}

function maskedChecksum(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + MASK_DELTA) >>> 0;
}
