"""Charts as SVG and PNG, drawn by matplotlib (the extra `report`), which is imported inside functions only.

In come `Chart`s, out come bytes. The same chart gives the same bytes on every machine: matplotlib's own font, its default
settings whatever a user's matplotlibrc says, no dates, and ids that do not depend on the process. No display and no
folder to write to is needed.
"""
