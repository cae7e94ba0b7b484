"""Pages for a static host: no kernel, and no request to anybody else.

playground  a page that predicts schedules in the browser
"""
