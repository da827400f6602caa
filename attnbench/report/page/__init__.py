"""The report as one HTML file that needs nothing else: no network, no other file, no framework.

`render.render` is the entrance. `content` is what the template asks for, with a module for each part of the page; `index`
holds by what they refer to a record. The template, style and script lie beside them.
"""
