"""The Triton kernel of `triton_fwd`: plain attention, forward only, in the way of FlashAttention-2.

A module of its own, imported by the loader and nowhere else: `@triton.jit` needs triton as soon as it decorates.
"""

import triton
import triton.language as tl


@triton.jit
def attnbench_forward(
    q, k, v, out,
    q_batch, q_row, q_head, q_dim,  # strides, in elements
    k_batch, k_row, k_head, k_dim,
    v_batch, v_row, v_head, v_dim,
    out_batch, out_row, out_head, out_dim,
    seq,
    scale,  # log2(e) / √head_dim: exp(x / √head_dim) = exp2(x · scale), and exp2 is what the GPU has
    HEAD_DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,  # query rows of one program
    BLOCK_N: tl.constexpr,  # key rows of one step of its loop
    WHOLE_BLOCKS: tl.constexpr,  # seq is a multiple of BLOCK_N: no key has to be masked
):  # fmt: skip
    """One program: BLOCK_M query rows of one head of one batch entry, against all keys and values, in one pass."""
    # int64 where a whole tensor is crossed: a batch of long videos has more than 2^31 elements.
    first_row = tl.program_id(0).to(tl.int64) * BLOCK_M
    head, batch = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    rows, cols, dims = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N), tl.arange(0, HEAD_DIM)
    real_rows = (first_row + rows < seq)[:, None]  # the last program may reach beyond the last query

    q += batch * q_batch + head * q_head + first_row * q_row
    k += batch * k_batch + head * k_head + cols[None, :] * k_row + dims[:, None] * k_dim  # transposed by its strides
    v += batch * v_batch + head * v_head + cols[:, None] * v_row + dims[None, :] * v_dim
    queries = tl.load(q + rows[:, None] * q_row + dims[None, :] * q_dim, mask=real_rows, other=0.0)

    # Of the keys seen so far, per query row: the largest score · scale, the sum of the weights exp2(score · scale −
    # largest), and the values' sum under them. A larger score scales both sums down when it turns up ("online softmax").
    largest = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    weighted = tl.zeros([BLOCK_M, HEAD_DIM], tl.float32)

    for first_key in range(0, seq, BLOCK_N):
        real_keys = first_key + cols < seq
        if WHOLE_BLOCKS:
            keys, values = tl.load(k), tl.load(v)
        else:  # 0 and not what lies there: 0 · NaN would be NaN in the sum over values
            keys = tl.load(k, mask=real_keys[None, :], other=0.0)
            values = tl.load(v, mask=real_keys[:, None], other=0.0)

        # "ieee" keeps fp32 inputs fp32 where the default is tf32; for 16-bit inputs it says nothing.
        scores = tl.dot(queries, keys, input_precision="ieee")
        if not WHOLE_BLOCKS:
            scores = tl.where(real_keys[None, :], scores, float("-inf"))

        new_largest = tl.maximum(largest, tl.max(scores, 1) * scale)  # finite: the first block holds a real key
        shrink = tl.exp2(largest - new_largest)
        weights = tl.exp2(scores * scale - new_largest[:, None])  # one fused multiply and add per score
        total = total * shrink + tl.sum(weights, 1)
        weighted = tl.dot(weights.to(values.dtype), values, weighted * shrink[:, None], input_precision="ieee")
        largest = new_largest

        k += BLOCK_N * k_row
        v += BLOCK_N * v_row

    out += batch * out_batch + head * out_head + first_row * out_row
    out += rows[:, None] * out_row + dims[None, :] * out_dim
    tl.store(out, (weighted / total[:, None]).to(out.dtype.element_ty), mask=real_rows)
