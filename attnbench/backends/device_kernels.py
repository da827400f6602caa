"""Names of device kernels that more than one family runs or must not run, as regular expressions for `route` and `foreign`.

One place for them: a kernel that is renamed upstream is renamed here, and whatever runs it is known by it again.
"""

#: FlashAttention-2, of the package flash-attn or of PyTorch's copy. With few rows and many keys it runs `splitkv` kernels
#: instead of the plain one, and another to combine: all of them begin so.
ANY_FLASH_2 = r"flash::flash_fwd_"
#: That of the package alone: the `\b` keeps PyTorch's copy out, which is `pytorch_flash::flash_fwd_…`.
FLASH_2 = rf"\b{ANY_FLASH_2}"
FLASH_3 = r"flash::enable_sm90|flash::FlashAttnFwdSm90"
FLASH_4 = r"flash_attn.*cute.*flash_fwd|FlashAttentionForward"
#: Whatever the package flash-attn runs, 2 and 3.
PACKAGE_FLASH = r"\bflash::"

#: What PyTorch has for SDPA: its copy of FlashAttention-2, the CUTLASS kernel that xFormers brought, and cuDNN's.
TORCHS_FLASH = r"pytorch_flash::"
CUTLASS = r"fmha_cutlass"
CUDNN = r"cudnn.*(sdpa|flash)"
TORCHS_OWN = f"{TORCHS_FLASH}|{CUTLASS}|{CUDNN}"
