"""What the plots show, as points: one chart per device, problem and measure, from records alone.

In come runs, out come `Chart`s, and a sentence for each that has no data. No plotting library and no file: a page can
write the same points into its own data.
"""
