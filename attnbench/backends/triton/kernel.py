"""The Triton kernel of `triton_fwd`: attention, forward, in the way of FlashAttention-2.

A module of its own, imported by the loader and nowhere else: `@triton.jit` needs triton as soon as it decorates.
"""

import triton
import triton.language as tl


@triton.jit
def attnbench_forward(
    q, k, v, out,  # tensor descriptors over [batch, seq, heads, head_dim]; what lies beyond an end reads as 0
    lse,  # [batch, heads, seq_q] in fp32, which gets log2 of the sum of exp2(score · scale) of every row; or None
    seq_q, seq_kv,
    scale,  # log2(e) / √head_dim: exp(x / √head_dim) = exp2(x · scale), and exp2 is what the GPU has
    GROUP: tl.constexpr,  # query heads that share a head of keys and values
    HEAD_DIM: tl.constexpr,  # a power of two, at least that of the tensors
    BLOCK_M: tl.constexpr,  # query rows of one program
    BLOCK_N: tl.constexpr,  # key rows of one step of its loop
    CAUSAL: tl.constexpr,  # query row i sees the keys up to i + seq_kv − seq_q: the last row sees all
    WHOLE_BLOCKS: tl.constexpr,  # seq_kv is a multiple of BLOCK_N: without CAUSAL, no key has to be masked
):  # fmt: skip
    """One program: BLOCK_M query rows of one head of one batch entry, against all keys and values, in one pass."""
    block, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    if CAUSAL:
        block = tl.num_programs(0) - 1 - block  # the last rows see the most keys: they start first
    first_row, kv_head = block * BLOCK_M, head // GROUP
    rows = first_row + tl.arange(0, BLOCK_M)
    queries = q.load([batch, first_row, head, 0]).reshape([BLOCK_M, HEAD_DIM])

    # Every row sees the keys below `unmasked`, in whole blocks; no row sees one from `end` on.
    unmasked, end = seq_kv, seq_kv
    if CAUSAL:
        unmasked = tl.maximum(first_row + 1 + seq_kv - seq_q, 0) // BLOCK_N * BLOCK_N
        end = tl.minimum(first_row + BLOCK_M + seq_kv - seq_q, seq_kv)
    elif not WHOLE_BLOCKS:
        unmasked = seq_kv // BLOCK_N * BLOCK_N

    # Of the keys seen so far, per query row: the largest score · scale, the sum of the weights exp2(score · scale −
    # largest), and the values' sum under them. A larger score scales both sums down when it turns up ("online softmax").
    # Where a row may have no key, the largest starts finite: −∞ − −∞ would be NaN.
    largest = tl.full([BLOCK_M], -1e38 if CAUSAL else float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    weighted = tl.zeros([BLOCK_M, HEAD_DIM], tl.float32)

    for masked in tl.static_range(1 if WHOLE_BLOCKS and not CAUSAL else 2):
        for first_key in range(unmasked if masked else 0, end if masked else unmasked, BLOCK_N):
            keys = k.load([batch, first_key, kv_head, 0]).reshape([BLOCK_N, HEAD_DIM])
            # "ieee" keeps fp32 inputs fp32 where the default is tf32; for 16-bit inputs it says nothing.
            scores = tl.dot(queries, keys.T, input_precision="ieee")
            if masked:
                columns = first_key + tl.arange(0, BLOCK_N)[None, :]
                seen = columns <= rows[:, None] + seq_kv - seq_q if CAUSAL else columns < seq_kv
                scores = tl.where(seen, scores, float("-inf"))

            new_largest = tl.maximum(largest, tl.max(scores, 1) * scale)
            shrink = tl.exp2(largest - new_largest)
            weights = tl.exp2(scores * scale - new_largest[:, None])  # one fused multiply and add per score
            total = total * shrink + tl.sum(weights, 1)
            values = v.load([batch, first_key, kv_head, 0]).reshape([BLOCK_N, HEAD_DIM])
            weighted = tl.dot(weights.to(values.dtype), values, weighted * shrink[:, None], input_precision="ieee")
            largest = new_largest

    has_key = total > 0
    if CAUSAL:
        total = tl.where(has_key, total, 1)  # a row without a key gives 0
    if lse is not None:
        # +∞ for a row without a key: the backward pass makes its weights exp2(score · scale − ∞) = 0.
        row_lse = tl.where(has_key, largest + tl.log2(total), float("inf"))
        tl.store(lse + (batch * tl.num_programs(1) + head) * seq_q + rows, row_lse, rows < seq_q)
    result = (weighted / total[:, None]).to(out.dtype)  # rows beyond the last are not stored
    out.store([batch, first_row, head, 0], result.reshape([1, BLOCK_M, 1, HEAD_DIM]))
