"""Names of device kernels that more than one family runs or must not run, as regular expressions for `route` and `foreign`.

One place for them: a kernel that is renamed upstream is renamed here, and whatever runs it is known by it again.
"""

#: FlashAttention-2, of the package flash-attn or of PyTorch's copy. With few rows and many keys it runs `splitkv` kernels
#: instead of the plain one, and another to combine; its backward pass has kernels before and behind the main one
#: (`flash_bwd_dot_do_o_kernel`, `flash_bwd_convert_dq_kernel`): all of them begin so.
ANY_FLASH_2 = r"flash::flash_(fwd|bwd)_"
#: That of the package alone: the `\b` keeps PyTorch's copy out, which is `pytorch_flash::flash_fwd_…`.
FLASH_2 = rf"\b{ANY_FLASH_2}"
FLASH_3 = r"flash::enable_sm90|flash::FlashAttn(Fwd|Bwd)"
FLASH_4 = r"flash_attn.*cute.*flash_(fwd|bwd)|FlashAttention(Forward|Backward)"
#: Whatever the package flash-attn runs, 2 and 3.
PACKAGE_FLASH = r"\bflash::"

#: What PyTorch has for SDPA: its copy of FlashAttention-2, the CUTLASS kernels that xFormers brought (`fmha_cutlassF_…`,
#: `fmha_cutlassB_…`), and cuDNN's: `…_flash_fprop_…`, `…_flash_bprop_…`, and what its backward pass runs beside that.
TORCHS_FLASH = r"pytorch_flash::"
CUTLASS = r"fmha_cutlass"
CUDNN = r"cudnn.*(sdpa|flash|dot_do_o|convert_dq)"
TORCHS_OWN = f"{TORCHS_FLASH}|{CUTLASS}|{CUDNN}"
