"""Let the EPUB be built: the theme's buttons and menus belong to pages of a site and fail in it."""

from bs4 import BeautifulSoup

import gentok

THEMES = ("sphinx_book_theme", "pydata_sphinx_theme", "sphinx_thebe")
EVENTS = ("html-page-context", "build-finished")


def without_theme(app):
    """Take the themes' hands off the pages of an EPUB."""
    if app.builder.name != "epub":
        return
    for event in EVENTS:
        listeners = app.events.listeners.get(event, [])
        for listener in list(listeners):
            if listener.handler.__module__.startswith(THEMES):
                listeners.remove(listener)


def name_version(app, config):
    config.version = config.version or gentok.__version__


def well_formed(app, page, template, context, doctree):
    """Close the tags of the HTML that cells printed: a page of an EPUB must be XML."""
    if app.builder.name == "epub" and "body" in context:
        context["body"] = BeautifulSoup(context["body"], "html.parser").decode(formatter="minimal")


def setup(app):
    app.connect("html-page-context", well_formed, priority=900)
    app.connect("config-inited", name_version)
    app.connect("builder-inited", without_theme, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
