"""A page about one model: what the catalogue of facts says of it, with figures, as one HTML file or as Markdown.

    runs and facts -> build.build_page -> document.Page -> html.to_html or markdown.to_markdown -> output.write_page

The page is data first (`document`), so that what it says is tested separately from how it is written. Figures are
drawn with matplotlib, which is an extra and loaded when the first figure is drawn; nothing here loads torch, and no
verdict is reached here: they come from `lmfacts.facts`.
"""
