/**
 * Matrices as they are stored to and from strips of float64 or float32, four numbers at a time.
 *
 * Stored by columns, they are transposed on the way, in tiles of four by four: a factor needs no pass of its own for it.
 *
 * All kernels take `(source, sourceEnd, sourceRowBytes, spanBytes, target, targetRowBytes)`: rows of a matrix, and how much of each of them is
 * read. They read and write whole groups of four. What a group writes beyond the end of a row of stored numbers, the next row
 * overwrites: rows may lie one behind the other without gaps.
 */
import { ELEMENT_BYTES, VECTOR_BYTES } from "./layout.js";
import { DECODERS, ENCODERS, FORMAT_BYTES, type NumberFormat } from "./number-formats.js";
import { DOUBLE, type ElementType } from "./product-kernels.js";
import {
  advance,
  type Code,
  demote,
  type FunctionDescription,
  firstHalves,
  get,
  intAdd,
  intConstant,
  interleaveFirst,
  interleaveLast,
  intMul,
  type Local,
  lastHalf,
  lastHalves,
  load,
  promote,
  repeatUntil,
  set,
  store,
  TYPE,
  Variables,
} from "./wasm-code.js";

/** Numbers that are converted at once; rows and columns of a tile. */
export const GROUP = 4;

/** What the workspace can hold: formats of files, and float64. */
export type StoredFormat = NumberFormat | "F64";

export function storedBytes(format: StoredFormat): number {
  return format === "F64" ? ELEMENT_BYTES : FORMAT_BYTES[format];
}

export type ConversionKind = "expandRows" | "expandColumns" | "compressRows" | "compressColumns";

/** @param type - of the strip */
export function conversionKernel(
  kind: ConversionKind,
  format: StoredFormat,
  type: ElementType,
): FunctionDescription {
  if (kind === "expandRows") return rowsKernel((variables) => expander(format, type, variables));
  if (kind === "compressRows") return rowsKernel((variables) => compressor(format, type, variables));
  if (format === "F64") throw new Error("internal: float64 by columns");
  return kind === "expandColumns" ? expandColumns(format, type) : compressColumns(format, type);
}

/** Moves a group between two addresses and advances both. */
type MoveGroup = (from: Local, to: Local) => Code;

/** Rows to rows. */
function rowsKernel(mover: (variables: Variables) => MoveGroup): FunctionDescription {
  const variables = new Variables();
  const [source, sourceEnd, sourceRowBytes, spanBytes, target, targetRowBytes] = parameters(variables);
  const [from, end, to] = variables.locals(3, TYPE.i32) as [Local, Local, Local];
  const moveGroup = mover(variables);
  return variables.describe(
    repeatUntil(source, sourceEnd, [
      ...set(from, get(source)),
      ...set(end, intAdd(get(source), get(spanBytes))),
      ...set(to, get(target)),
      ...repeatUntil(from, end, moveGroup(from, to)),
      ...advanceRow(source, sourceRowBytes),
      ...advanceRow(target, targetRowBytes),
    ]),
  );
}

function expander(format: StoredFormat, type: ElementType, variables: Variables): MoveGroup {
  const advances = (from: Local, to: Local) => [
    ...advance(from, GROUP * storedBytes(format)),
    ...advance(to, GROUP * type.bytes),
  ];
  if (format === "F64" && type === DOUBLE)
    return (from, to) => [...copyFour(from, to), ...advances(from, to)];
  const value = variables.local(TYPE.v128);
  const decode =
    format === "F64" ? (address: Code) => loadFour(DOUBLE, address) : DECODERS[format](variables);
  return (from, to) => [
    ...set(value, decode(get(from))),
    ...storeFour(type, get(to), value),
    ...advances(from, to),
  ];
}

function compressor(format: StoredFormat, type: ElementType, variables: Variables): MoveGroup {
  const advances = (from: Local, to: Local) => [
    ...advance(from, GROUP * type.bytes),
    ...advance(to, GROUP * storedBytes(format)),
  ];
  if (format === "F64") return (from, to) => [...copyFour(from, to), ...advances(from, to)];
  const encode = ENCODERS[format](variables);
  return (from, to) => [...encode(get(to), loadFour(type, get(from))), ...advances(from, to)];
}

/** Stored rows to columns of a strip. Source rows are read four at a time, too. */
function expandColumns(format: NumberFormat, type: ElementType): FunctionDescription {
  const variables = new Variables();
  const [source, sourceEnd, sourceRowBytes, spanBytes, target, targetRowBytes] = parameters(variables);
  const [from, at, end, to] = variables.locals(4, TYPE.i32) as [Local, Local, Local, Local];
  const tile = new Tile(variables);
  const decode = DECODERS[format](variables);
  return variables.describe(
    repeatUntil(source, sourceEnd, [
      ...set(from, get(source)),
      ...set(end, intAdd(get(source), get(spanBytes))),
      ...set(to, get(target)),
      ...repeatUntil(from, end, [
        ...set(at, get(from)),
        ...tile.rows.flatMap((row) => [...set(row, decode(get(at))), ...advanceRow(at, sourceRowBytes)]),
        ...tile.transpose(),
        ...tile.rows.flatMap((row) => [...storeFour(type, get(to), row), ...advanceRow(to, targetRowBytes)]),
        ...advance(from, GROUP * FORMAT_BYTES[format]),
      ]),
      ...set(source, nthRow(source, sourceRowBytes, GROUP)),
      ...advance(target, GROUP * type.bytes),
    ]),
  );
}

/**
 * Columns of a strip to stored rows. Source rows are read four at a time, the last ones first, so that what they write too much is
 * overwritten; `target` is where the last four begin in the first column.
 */
function compressColumns(format: NumberFormat, type: ElementType): FunctionDescription {
  const variables = new Variables();
  const [source, sourceEnd, sourceRowBytes, spanBytes, target, targetRowBytes] = parameters(variables);
  const [column, columnEnd, group, from, to, at] = variables.locals(6, TYPE.i32) as [
    Local,
    Local,
    Local,
    Local,
    Local,
    Local,
  ];
  const tile = new Tile(variables);
  const encode = ENCODERS[format](variables);
  return variables.describe([
    ...set(column, nthRow(sourceEnd, sourceRowBytes, -GROUP)),
    ...set(columnEnd, intAdd(get(column), get(spanBytes))),
    ...repeatUntil(column, columnEnd, [
      ...set(group, get(source)),
      ...set(from, get(column)),
      ...set(to, get(target)),
      ...repeatUntil(group, sourceEnd, [
        ...set(at, get(from)),
        ...tile.rows.flatMap((row) => [
          ...set(row, loadFour(type, get(at))),
          ...advanceRow(at, sourceRowBytes),
        ]),
        ...tile.transpose(),
        ...set(at, get(to)),
        ...tile.rows.flatMap((row) => [...encode(get(at), get(row)), ...advanceRow(at, targetRowBytes)]),
        ...set(group, nthRow(group, sourceRowBytes, GROUP)),
        ...set(from, nthRow(from, sourceRowBytes, -GROUP)),
        ...advance(to, -GROUP * FORMAT_BYTES[format]),
      ]),
      ...advance(column, GROUP * type.bytes),
      ...set(target, nthRow(target, targetRowBytes, GROUP)),
    ]),
  ]);
}

/** Four vectors of float32. */
class Tile {
  readonly rows: readonly Local[];
  readonly #pairs: readonly Local[];

  constructor(variables: Variables) {
    this.rows = variables.locals(GROUP, TYPE.v128);
    this.#pairs = variables.locals(GROUP, TYPE.v128);
  }

  transpose(): Code {
    const [a, b, c, d] = this.rows.map(get) as [Code, Code, Code, Code];
    const [ab, abLast, cd, cdLast] = this.#pairs as [Local, Local, Local, Local];
    const columns = [
      firstHalves(get(ab), get(cd)),
      lastHalves(get(ab), get(cd)),
      firstHalves(get(abLast), get(cdLast)),
      lastHalves(get(abLast), get(cdLast)),
    ];
    return [
      ...set(ab, interleaveFirst(a, b)),
      ...set(abLast, interleaveLast(a, b)),
      ...set(cd, interleaveFirst(c, d)),
      ...set(cdLast, interleaveLast(c, d)),
      ...columns.flatMap((column, i) => set(this.rows[i]!, column)),
    ];
  }
}

type Pointers = [Local, Local, Local, Local, Local, Local];

function parameters(variables: Variables): Pointers {
  return Array.from({ length: 6 }, () => variables.parameter(TYPE.i32)) as Pointers;
}

function advanceRow(at: Local, rowBytes: Local): Code {
  return set(at, intAdd(get(at), get(rowBytes)));
}

function nthRow(at: Local, rowBytes: Local, n: number): Code {
  return intAdd(get(at), intMul(get(rowBytes), intConstant(n)));
}

function copyFour(from: Local, to: Local): Code {
  return [...store(get(to), load(get(from))), ...store(get(to), load(get(from), VECTOR_BYTES), VECTOR_BYTES)];
}

/** Four float32 as elements of a strip. */
function storeFour({ bytes }: ElementType, address: Code, value: Local): Code {
  if (GROUP * bytes === VECTOR_BYTES) return store(address, get(value));
  return [
    ...store(address, promote(get(value))),
    ...store(address, promote(lastHalf(get(value))), VECTOR_BYTES),
  ];
}

/** Four elements of a strip as float32. */
function loadFour({ bytes }: ElementType, address: Code): Code {
  if (GROUP * bytes === VECTOR_BYTES) return load(address);
  return firstHalves(demote(load(address)), demote(load(address, VECTOR_BYTES)));
}
