"""The web pages: rendered on the server, kept up to date by small scripts that call the API."""

from nas.service.pages.errors import ReadableErrors
from nas.service.pages.page_routes import router
from nas.service.pages.rendering import prepare

__all__ = ["ReadableErrors", "prepare", "router"]
