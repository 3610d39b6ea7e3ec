/** Reverse-mode differentiation of a graph: appends the nodes of the backward pass. */

import { internalError } from "../errors.js";
import { afterwards } from "./afterwards.js";
import type { Graph, Operation } from "./graph.js";
import { add } from "./ops/elementwise.js";
import { formatShape, sameShape, type Tensor } from "./tensor.js";

/** A tensor with the gradient of the objective with respect to it. */
export interface Seed {
  readonly tensor: Tensor;
  readonly gradient: Tensor;
}

/**
 * Gradients of `sum over seeds of <seed.gradient, seed.tensor>` with respect to `targets`.
 *
 * @param operations - what was recorded between the targets and the seeds, in order
 * @returns for each target a tensor of its shape, or null where no path leads to it
 */
export function gradients(
  graph: Graph,
  operations: readonly Operation[],
  seeds: readonly Seed[],
  targets: readonly Tensor[],
): (Tensor | null)[] {
  return graph.untracked(() => {
    const arrived = new Map<Tensor, Tensor>();
    const deliver = (tensor: Tensor, gradient: Tensor, label: string) => {
      if (!sameShape(tensor.shape, gradient.shape)) {
        throw internalError(
          `gradient of ${label} has shape ${formatShape(gradient.shape)}, its tensor ${formatShape(tensor.shape)}`,
        );
      }
      // Summed at once, not at the end: fewer gradients are alive at the same time.
      const before = arrived.get(tensor);
      arrived.set(tensor, before === undefined ? gradient : add(graph, before, gradient));
    };

    for (const { tensor, gradient } of seeds) deliver(tensor, gradient, "a seed");
    for (let index = operations.length - 1; index >= 0; index--) {
      const { label, inputs, outputs, gradient } = operations[index]!;
      const dOutputs = outputs.map((output) => arrived.get(output) ?? null);
      if (dOutputs.every((dOutput) => dOutput === null)) continue;
      const wanted = inputs.map((input) => input.needsGradient);
      const dInputs = gradient(dOutputs, wanted);
      for (const [position, input] of inputs.entries()) {
        const dInput = dInputs[position];
        if (wanted[position] && dInput) deliver(input, dInput, `${label}, input ${position}`);
      }
    }
    return targets.map((target) => arrived.get(target) ?? null);
  });
}

/**
 * Builds a block whose inner values are not kept for the backward pass but computed again there (gradient
 * checkpointing, Chen et al. 2016, arXiv:1604.06174).
 *
 * `build` is called once for the forward pass and once for the backward pass; it must append the same nodes both times.
 */
export function checkpoint(graph: Graph, build: () => readonly Tensor[]): readonly Tensor[] {
  const { result: outputs, operations } = graph.recordOperations(build);
  const made = new Set(operations.flatMap((operation) => operation.outputs));
  const inputs = [
    ...new Set(
      operations.flatMap((operation) =>
        operation.inputs.filter((input) => input.needsGradient && !made.has(input)),
      ),
    ),
  ];
  graph.record({
    label: "checkpoint",
    inputs,
    outputs,
    gradient: (dOutputs) => {
      const arrived = dOutputs.find((dOutput) => dOutput !== null)!;
      const fed = inputs.filter((input) => !graph.inputs.includes(input));
      const delayed = graph.untracked(() => afterwards(graph, fed, [arrived]));
      const again = graph.substituting(delayed, () => graph.recordOperations(build));
      const seeds = again.result.flatMap((tensor, position) => {
        const gradient = dOutputs[position];
        return gradient ? [{ tensor, gradient }] : [];
      });
      return gradients(graph, again.operations, seeds, inputs);
    },
  });
  return outputs;
}
