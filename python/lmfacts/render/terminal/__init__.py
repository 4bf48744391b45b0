"""A run as text for a terminal, and as JSON: pure functions of `Run`, `SiteRecord` and `Progress`.

One section of the summary per file: first the figures, as dataclasses that the JSON documents share, then the
renderable that draws them. `summary` and `site_page` put the sections together, `console` makes the consoles. Nothing
here imports torch, and no statistic is defined here that a `SiteRecord` could give.
"""
