"""Grids: the workloads that people quote, as tables with a reason and a source per row; `--attn-grid` chooses among them.

One module per grid, of data alone; `known` lists them. They import nothing but the model.
"""
