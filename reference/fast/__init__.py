"""The reference rules for training: the same formulas, in low precision, on stacks, and on sharded parameters.

`optimizers` has one class per rule, named as in `reference.optimizers`; ``reference.build_stack(model,
precision="bfloat16")`` is the layerwise optimizer. What is faster is not another formula but

- the polynomial polar factor (`polar`), in a low precision, over all matrices of a stack in one product;
- the bookkeeping of a step (`step`): states that already lie in a stack, weights that nobody reads are not copied;
- the place where a rule runs (`sharding`): on the shards where they suffice, else with whole matrices dealt out to the
  ranks.

`bounds` says how far the low precision may take a result from the float64 rule.
"""
