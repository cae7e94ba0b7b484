"""The course as a static site: its pages, guides, reference and recordings, playable anywhere.

    pages         gathers the sources in one folder: lessons, guides, and the pages below
    playable      an output that holds a timeline becomes an element that plays it
    gallery       recorded runs to play, each with the lines that made it
    public_names  a page for each public package, from its docstrings
    build         runs Sphinx on that folder, and adds what plays
    playground    a page that predicts schedules in the browser
    dead_links    checks each link and each address that a page loads

Needs the extra ``site``: ``pip install -e ".[site]"``. Sphinx runs in a separate process.
"""
