import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DyloraError } from "../../errors.js";
import { randomStream } from "../../random/stream.js";
import { allocateForKernels } from "./kernel-memory.js";
import {
  add,
  compileKernel,
  constant,
  div,
  type KernelScope,
  mul,
  sign,
  sqrt,
  sub,
  sumOfSquares,
} from "./simd-kernel.js";

const f = Math.fround;

/** Lengths around a vector (4) and a chunk (4096). */
const LENGTHS = [0, 1, 3, 4, 5, 4095, 4096, 4097, 10_000];

function normals(length: number, key: string): Float32Array {
  return randomStream(1, key, length).fillNormal(new Float32Array(length));
}

describe("compileKernel", () => {
  it("computes every operation as float32, for every length", () => {
    const kernel = compileKernel(["a", "b", "sum", "rest"], ["s"], ({ array, scalar, keep, store }) => {
      const scaled = keep(mul(array("a"), scalar("s")));
      store("sum", add(scaled, sqrt(mul(array("b"), array("b")))));
      store("rest", sub(div(scaled, array("b")), constant(0.1)));
    });
    for (const length of LENGTHS) {
      const [a, b] = [normals(length, "a"), normals(length, "b")];
      const [sum, rest] = [new Float32Array(length), new Float32Array(length)];
      kernel({ a, b, sum, rest }, { s: 0.3 });
      const scaled = a.map((x) => f(x * f(0.3)));
      expect(sum).toEqual(scaled.map((x, i) => f(x + f(Math.sqrt(f(b[i]! * b[i]!))))));
      expect(rest).toEqual(scaled.map((x, i) => f(f(x / b[i]!) - f(0.1))));
      expect(a).toEqual(normals(length, "a"));
    }
  });

  it("writes nothing outside the arrays it is given", () => {
    const fill = compileKernel(["x"], [], ({ store }) => store("x", constant(7)));
    const memory = new Float32Array(20);
    fill({ x: memory.subarray(3, 9) }, {});
    expect([...memory]).toEqual([0, 0, 0, 7, 7, 7, 7, 7, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  });

  it("sees what an earlier store left", () => {
    const twice = compileKernel(["x"], [], ({ array, store }) => {
      store("x", add(array("x"), constant(1)));
      store("x", mul(array("x"), constant(10)));
    });
    const x = Float32Array.of(1, 2, 3);
    twice({ x }, {});
    expect([...x]).toEqual([20, 30, 40]);
  });

  it("knows the sign of everything", () => {
    const kernel = compileKernel(["x"], [], ({ array, store }) => store("x", sign(array("x"))));
    const x = Float32Array.of(
      2.5,
      -1e-40,
      0,
      -0,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
      Number.NaN,
    );
    kernel({ x }, {});
    expect([...x]).toEqual([1, -1, 0, 0, 1, -1, 0]);
  });

  it("passes on what is not finite", () => {
    const square = compileKernel(["x"], [], ({ array, store }) => store("x", mul(array("x"), array("x"))));
    const x = Float32Array.of(Number.NaN, Number.NEGATIVE_INFINITY, 1e30, 3);
    square({ x }, {});
    expect([...x]).toEqual([Number.NaN, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, 9]);
  });

  it("updates arrays in kernel memory where they are, to the same numbers", () => {
    const define = ({ array, scalar, keep, store }: KernelScope<"w" | "g" | "m", "s">) => {
      const m = keep(add(mul(array("m"), scalar("s")), array("g")));
      store("m", m);
      store("w", sub(array("w"), mul(m, scalar("s"))));
    };
    const kernel = compileKernel(["w", "g", "m"], ["s"], define);
    for (const length of LENGTHS) {
      const names = ["w", "g", "m"] as const;
      const expected = names.map((name) => normals(length, name));
      const run = ([w, g, m]: readonly Float32Array[]) => kernel({ w: w!, g: g!, m: m! }, { s: 0.3 });
      run(expected);
      // What lies behind each array must stay as it is.
      const groups = [names.map(() => length), [8], names.map(() => length)];
      const [all, [guard], some] = allocateForKernels(groups) as [
        Float32Array[],
        [Float32Array],
        Float32Array[],
      ];
      guard.fill(1);
      for (const arrays of [all, some]) {
        for (const [k, name] of names.entries()) arrays[k]!.set(normals(length, name));
      }
      some[1] = normals(length, "g");
      for (const arrays of [all, some]) {
        run(arrays);
        expect(arrays.map((array) => [...array])).toEqual(expected.map((array) => [...array]));
      }
      expect([...guard]).toEqual(new Array(8).fill(1));
    }
  });

  it("updates arrays of two memories", () => {
    const copy = compileKernel(["to", "from"], [], ({ array, store }) => store("to", array("from")));
    const [[to]] = allocateForKernels([[6]]) as [[Float32Array]];
    const [[from]] = allocateForKernels([[6]]) as [[Float32Array]];
    from.set([1, 2, 3, 4, 5, 6]);
    copy({ to, from }, {});
    expect([...to]).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it("refuses arrays of different lengths", () => {
    const copy = compileKernel(["to", "from"], [], ({ array, store }) => store("to", array("from")));
    expect(() => copy({ to: new Float32Array(3), from: new Float32Array(4) }, {})).toThrow(DyloraError);
  });
});

describe("sumOfSquares", () => {
  it("is exact where float64 is", () => {
    for (const length of LENGTHS) {
      const values = Float32Array.from({ length }, (_, i) => (i % 64) - 32);
      expect(sumOfSquares(values)).toBe(values.reduce((sum, value) => sum + value * value, 0));
    }
  });

  it("agrees with plain float64 for any values, and does not overflow where float32 would", () => {
    const floats = fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), { maxLength: 50 });
    fc.assert(
      fc.property(floats, (values) => {
        const expected = values.reduce((sum, value) => sum + value * value, 0);
        expect(Math.abs(sumOfSquares(Float32Array.from(values)) - expected)).toBeLessThanOrEqual(
          1e-14 * expected,
        );
      }),
    );
    expect(sumOfSquares(Float32Array.of(3e38, 4e38 / 2))).toBeGreaterThan(1e76);
    expect(sumOfSquares(Float32Array.of(1, Number.NaN))).toBeNaN();
  });

  it("is the same to the last bit in memory for kernels", () => {
    for (const length of LENGTHS) {
      const values = normals(length, "squares");
      const [[, inside]] = allocateForKernels([[3, length]]) as [[Float32Array, Float32Array]];
      inside.set(values);
      expect(sumOfSquares(inside)).toBe(sumOfSquares(values));
      expect(inside).toEqual(values);
    }
  });

  it("does not remember the call before", () => {
    sumOfSquares(new Float32Array(4096).fill(5));
    expect(sumOfSquares(Float32Array.of(1, 1, 1))).toBe(3);
  });
});
