"""The Triton kernels of `triton_bwd`: the gradients of attention, in the way of FlashAttention-2.

With P the probabilities and D = rowsum(dO · O): dV = Pᵀ·dO, dS = P · (dO·Vᵀ − D), dQ = dS·K / √head_dim and
dK = dSᵀ·Q / √head_dim. P is computed again, from the log-sum-exp that the forward kernel stored. One kernel goes along the
queries for dK and dV, one along the keys for dQ: each adds up its own sums, so that a gradient has the same bits every time.
"""

import triton
import triton.language as tl

LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def attnbench_backward_rowsum(
    out, out_grad,  # tensor descriptors over [batch, heads, seq, head_dim]; what lies beyond an end reads as 0
    rowsum,  # [batch, heads, seq_q] in fp32, which gets rowsum(dO · O)
    seq_q,
    HEAD_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK_M query rows of one head of one batch entry."""
    first_row, head, batch = tl.program_id(0) * BLOCK_M, tl.program_id(1), tl.program_id(2)
    rows = first_row + tl.arange(0, BLOCK_M)
    here = [batch, head, first_row, 0]
    result = out.load(here).reshape([BLOCK_M, HEAD_DIM]).to(tl.float32)
    result_grad = out_grad.load(here).reshape([BLOCK_M, HEAD_DIM]).to(tl.float32)
    to = rowsum + (batch * tl.num_programs(1) + head) * seq_q + rows
    tl.store(to, tl.sum(result * result_grad, 1), rows < seq_q)


@triton.jit
def attnbench_backward_keys(
    q, k, v, out_grad, k_grad, v_grad,  # tensor descriptors, as of the forward kernel
    lse, rowsum,  # [batch, heads, seq_q] in fp32
    seq_q, seq_kv,
    scale,  # log2(e) / √head_dim
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,  # query rows of one step of the loop
    BLOCK_N: tl.constexpr,  # key rows of one program
    CAUSAL: tl.constexpr,
):  # fmt: skip
    """One program: dK and dV of BLOCK_N keys of one head, over all query rows of all query heads that share it."""
    first_key, kv_head, batch = tl.program_id(0) * BLOCK_N, tl.program_id(1), tl.program_id(2)
    columns = first_key + tl.arange(0, BLOCK_N)
    here = [batch, kv_head, first_key, 0]
    keys = k.load(here).reshape([BLOCK_N, HEAD_DIM])
    values = v.load(here).reshape([BLOCK_N, HEAD_DIM])

    # No row below `begin` sees one of these keys; every row from `unmasked` on sees them all. Both are whole blocks.
    begin, unmasked = 0, 0
    if CAUSAL:
        begin = tl.maximum(first_key + seq_q - seq_kv, 0) // BLOCK_M * BLOCK_M
        unmasked = tl.cdiv(tl.maximum(first_key + BLOCK_N - 1 + seq_q - seq_kv, 0), BLOCK_M) * BLOCK_M

    keys_grad = tl.zeros([BLOCK_N, HEAD_DIM], tl.float32)
    values_grad = tl.zeros([BLOCK_N, HEAD_DIM], tl.float32)

    for member in range(GROUP):
        head = kv_head * GROUP + member
        row_values = (batch * tl.num_programs(1) * GROUP + head) * seq_q
        for masked in tl.static_range(2 if CAUSAL else 1):
            for first_row in range(begin if masked else unmasked, unmasked if masked else seq_q, BLOCK_M):
                rows = first_row + tl.arange(0, BLOCK_M)
                queries = q.load([batch, head, first_row, 0]).reshape([BLOCK_M, HEAD_DIM])
                scores = tl.dot(keys, queries.T, input_precision="ieee")  # [BLOCK_N, BLOCK_M], as all below
                result_grad = out_grad.load([batch, head, first_row, 0]).reshape([BLOCK_M, HEAD_DIM])
                weights_grad = tl.dot(values, result_grad.T, input_precision="ieee")
                if masked:
                    seen = columns[:, None] <= rows[None, :] + seq_kv - seq_q
                    scores = tl.where(seen, scores, float("-inf"))
                # Beyond the last row the weights are exp2(score · scale − ∞) = 0.
                row_lse = tl.load(lse + row_values + rows, rows < seq_q, float("inf"))
                weights = tl.exp2(scores * scale - row_lse[None, :])
                values_grad = tl.dot(weights.to(values.dtype), result_grad, values_grad, input_precision="ieee")
                row_sum = tl.load(rowsum + row_values + rows, rows < seq_q, 0)
                scores_grad = weights * (weights_grad - row_sum[None, :])
                keys_grad = tl.dot(scores_grad.to(keys.dtype), queries, keys_grad, input_precision="ieee")

    keys_grad *= scale * LN_2  # 1 / √head_dim
    k_grad.store(here, keys_grad.to(k_grad.dtype).reshape([1, 1, BLOCK_N, HEAD_DIM]))
    v_grad.store(here, values_grad.to(v_grad.dtype).reshape([1, 1, BLOCK_N, HEAD_DIM]))


@triton.jit
def attnbench_backward_queries(
    q, k, v, out_grad, q_grad,  # tensor descriptors, as of the forward kernel
    lse, rowsum,  # [batch, heads, seq_q] in fp32
    seq_q, seq_kv,
    scale,  # log2(e) / √head_dim
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,  # query rows of one program
    BLOCK_N: tl.constexpr,  # key rows of one step of its loop
    CAUSAL: tl.constexpr,
    WHOLE_BLOCKS: tl.constexpr,  # seq_kv is a multiple of BLOCK_N: without CAUSAL, no key has to be masked
):  # fmt: skip
    """One program: dQ of BLOCK_M query rows of one head, over all keys and values: the loops of the forward kernel."""
    block, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    if CAUSAL:
        block = tl.num_programs(0) - 1 - block
    first_row, kv_head = block * BLOCK_M, head // GROUP
    rows = first_row + tl.arange(0, BLOCK_M)
    here = [batch, head, first_row, 0]
    queries = q.load(here).reshape([BLOCK_M, HEAD_DIM])
    result_grad = out_grad.load(here).reshape([BLOCK_M, HEAD_DIM])
    row_values = (batch * tl.num_programs(1) + head) * seq_q
    row_lse = tl.load(lse + row_values + rows, rows < seq_q, float("inf"))
    row_sum = tl.load(rowsum + row_values + rows, rows < seq_q, 0)

    unmasked, end = seq_kv, seq_kv
    if CAUSAL:
        unmasked = tl.maximum(first_row + 1 + seq_kv - seq_q, 0) // BLOCK_N * BLOCK_N
        end = tl.minimum(first_row + BLOCK_M + seq_kv - seq_q, seq_kv)
    elif not WHOLE_BLOCKS:
        unmasked = seq_kv // BLOCK_N * BLOCK_N

    queries_grad = tl.zeros([BLOCK_M, HEAD_DIM], tl.float32)

    for masked in tl.static_range(1 if WHOLE_BLOCKS and not CAUSAL else 2):
        for first_key in range(unmasked if masked else 0, end if masked else unmasked, BLOCK_N):
            keys = k.load([batch, kv_head, first_key, 0]).reshape([BLOCK_N, HEAD_DIM])
            scores = tl.dot(queries, keys.T, input_precision="ieee")
            if masked:
                columns = first_key + tl.arange(0, BLOCK_N)[None, :]
                seen = columns <= rows[:, None] + seq_kv - seq_q if CAUSAL else columns < seq_kv
                scores = tl.where(seen, scores, float("-inf"))
            weights = tl.exp2(scores * scale - row_lse[:, None])
            values = v.load([batch, kv_head, first_key, 0]).reshape([BLOCK_N, HEAD_DIM])
            weights_grad = tl.dot(result_grad, values.T, input_precision="ieee")
            scores_grad = weights * (weights_grad - row_sum[:, None])
            queries_grad = tl.dot(scores_grad.to(keys.dtype), keys, queries_grad, input_precision="ieee")

    queries_grad *= scale * LN_2  # 1 / √head_dim
    q_grad.store(here, queries_grad.to(q_grad.dtype).reshape([1, 1, BLOCK_M, HEAD_DIM]))
