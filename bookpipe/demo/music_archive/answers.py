"""The archive's kinds of answers: its own JSON, Rails' error pages, and redirects where others say 404."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

_REASONS = {422: "Unprocessable Content"}


def base_url(request: Request) -> str:
    """Scheme and host as Rails sees them: copied from what the client or its proxies say."""
    scheme = request.headers.get("x-forwarded-proto", request.url.scheme)
    host = request.headers.get("x-forwarded-host") or request.headers.get("host") or request.url.netloc
    return f"{scheme}://{host}"


def success(content: Mapping[str, Any], status: int = 200) -> Response:
    return JSONResponse({"success": True, **content}, status)


def failure(status: int, message: str, errors: list[str] | None = None) -> Response:
    """The archive's own error; `errors` only where fields were validated."""
    content = {"success": False, "message": message}
    return JSONResponse(content if errors is None else {**content, "errors": errors}, status)


def error_page(request: Request, status: int) -> Response:
    """An error of the framework: a page, or JSON for those who ask for it by name."""
    reason = _REASONS.get(status) or HTTPStatus(status).phrase
    if "application/json" in request.headers.get("accept", ""):
        return JSONResponse({"status": status, "error": reason}, status)
    page = f"<!DOCTYPE html><html><head><title>{reason} ({status})</title></head><body><h1>{reason}</h1></body></html>"
    return HTMLResponse(page, status)


def not_found_redirect(request: Request) -> Response:
    """What an unknown record gets: a way to the start page."""
    target = f"{base_url(request)}/"
    page = f'<html><body>You are being <a href="{target}">redirected</a>.</body></html>'
    return HTMLResponse(page, 302, {"Location": target})
