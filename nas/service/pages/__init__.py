"""The web pages: rendered on the server, kept up to date by small scripts that call the API."""

from nas.service.pages.errors import ReadableErrors
from nas.service.pages.rendering import prepare
from nas.service.pages.routes import router

__all__ = ["ReadableErrors", "prepare", "router"]
