"""glasscache in Django: `uvicorn django_app:application`, then ask /search?q=cache twice.

In a project of your own, only the lines with `cache` go into its asgi.py.
"""
# mypy: disable-error-code="import-untyped"

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

from glasscache import Cache, MemoryStore
from glasscache.asgi import CacheMiddleware, Rule


async def search(request: HttpRequest) -> JsonResponse:
    """Stand-in for what takes long in your app."""
    return JsonResponse({"answer": f"what there is to know about {request.GET['q']}"})


urlpatterns = [path("search", search)]
settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__)
cache = Cache(MemoryStore(max_entries=100))
application = CacheMiddleware(get_asgi_application(), cache=cache, rules=[Rule("/search", ttl=60)])
