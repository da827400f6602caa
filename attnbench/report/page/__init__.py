"""The report as one HTML file that needs nothing else: no network, no other file, no framework.

`render.render` is the entrance; `content` works out what the page shows, the template, style and script lie beside it.
"""
