"""The Triton kernel of `triton_fwd`: plain attention, forward only, in the way of FlashAttention-2.

A module of its own, imported by the loader and nowhere else: `@triton.jit` needs triton as soon as it decorates.
"""

import triton
import triton.language as tl


@triton.jit
def attnbench_forward(
    q, k, v, out,  # tensor descriptors over [batch, seq, heads, head_dim]; what lies beyond the last row reads as 0
    seq,
    scale,  # log2(e) / √head_dim: exp(x / √head_dim) = exp2(x · scale), and exp2 is what the GPU has
    HEAD_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,  # query rows of one program
    BLOCK_N: tl.constexpr,  # key rows of one step of its loop
    WHOLE_BLOCKS: tl.constexpr,  # seq is a multiple of BLOCK_N: no key has to be masked
):  # fmt: skip
    """One program: BLOCK_M query rows of one head of one batch entry, against all keys and values, in one pass."""
    first_row, head, batch = tl.program_id(0) * BLOCK_M, tl.program_id(1), tl.program_id(2)
    queries = q.load([batch, first_row, head, 0]).reshape([BLOCK_M, HEAD_DIM])

    # Of the keys seen so far, per query row: the largest score · scale, the sum of the weights exp2(score · scale −
    # largest), and the values' sum under them. A larger score scales both sums down when it turns up ("online softmax").
    largest = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    weighted = tl.zeros([BLOCK_M, HEAD_DIM], tl.float32)

    for first_key in range(0, seq, BLOCK_N):
        keys = k.load([batch, first_key, head, 0]).reshape([BLOCK_N, HEAD_DIM])
        # "ieee" keeps fp32 inputs fp32 where the default is tf32; for 16-bit inputs it says nothing.
        scores = tl.dot(queries, keys.T, input_precision="ieee")
        if not WHOLE_BLOCKS:
            real_keys = first_key + tl.arange(0, BLOCK_N) < seq
            scores = tl.where(real_keys[None, :], scores, float("-inf"))

        new_largest = tl.maximum(largest, tl.max(scores, 1) * scale)  # finite: the first block holds a real key
        shrink = tl.exp2(largest - new_largest)
        weights = tl.exp2(scores * scale - new_largest[:, None])  # one fused multiply and add per score
        total = total * shrink + tl.sum(weights, 1)
        values = v.load([batch, first_key, head, 0]).reshape([BLOCK_N, HEAD_DIM])
        weighted = tl.dot(weights.to(values.dtype), values, weighted * shrink[:, None], input_precision="ieee")
        largest = new_largest

    rows = (weighted / total[:, None]).to(out.dtype)  # those beyond the last are not stored
    out.store([batch, first_row, head, 0], rows.reshape([1, BLOCK_M, 1, HEAD_DIM]))
