"""The table has every operation that torch.optim, pytorch_optimizer 4.1.0 and the rules of ``reference`` execute.

The census was taken below the dispatcher: all optimizers of the three, with their flags one at a time (torch's: also
in pairs), four steps each on float64 matrices of shapes 5 x 3, 3 x 5 and 4 x 4; 1018 configurations that ran.
"""

from __future__ import annotations

import pytest

from symcheck.trace.builder import Builder, NotInVocabulary
from symcheck.trace.lowering import TABLE, lower

CENSUS = """
add mul pow sum zeros_like _foreach_add _foreach_mul _foreach_lerp div _foreach_sqrt _foreach_addcmul _foreach_div
sqrt zeros lerp clone _foreach_addcdiv addcmul linalg_vector_norm _to_copy addcdiv clamp_min neg _foreach_sub
_foreach_neg abs mm _foreach_pow _foreach_norm mean copy stack _foreach_copy clamp sub eq gt where _foreach_sign
scalar_tensor reciprocal addmm _foreach_maximum lt _foreach_clamp_min full_like dot _foreach_reciprocal ones_like
rsub _foreach_abs amax ne max ones bitwise_and new_zeros eye le full bmm cat maximum sign _foreach_rsqrt rsqrt
_linalg_eigh index _foreach_clamp_max _linalg_svd index_put nan_to_num _foreach_minimum masked_fill randn_like
index_select minimum std amin _foreach_sigmoid baddbmm ge std_mean _fused_adamw allclose round _fused_adam
_fused_sgd exp flip randint_like randn zero _softmax index_copy linalg_qr linalg_solve_triangular mv sort triu
_fused_adagrad bitwise_or softplus isnan normal bernoulli new_ones sigmoid all any bitwise_not prod
"""
"""Names without overload and in-place underscore, the most frequent first. Views, reads (``item``) and empty tensors
are the recorder's and not in the list."""

REFUSED = {
    "masked_scatter": "the mask decides which entry goes where",
    "nonzero": "the shape of the result depends on values",
    "randperm": "a random permutation is no array of independent numbers",
}
"""Operations of the census that programs cannot say."""


@pytest.mark.parametrize("name", CENSUS.split())
def test_the_census_is_covered(name: str) -> None:
    assert name in TABLE


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_the_rest_of_it_is_refused_by_name(name: str) -> None:
    with pytest.raises(NotInVocabulary, match=f"^the operation {name}$"):
        lower(Builder(), name, {})
