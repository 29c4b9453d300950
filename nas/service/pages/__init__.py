"""The web pages: server-rendered first, kept up to date by small scripts through the API."""

from nas.service.pages.errors import ReadableErrors
from nas.service.pages.rendering import prepare
from nas.service.pages.routes import router

__all__ = ["ReadableErrors", "prepare", "router"]
