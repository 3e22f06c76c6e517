"""The routes that a request was held against, as they are told to the operator, are those that decided."""

from itertools import product

from gateway.config import compile_routes, parse
from gateway.routing import NoRoute, RouteTable

ROUTES: list[dict[str, object]] = [
    {"name": "root", "path": "/", "auth": "none", "methods": ["GET"]},
    {"name": "api", "path": "/api", "auth": "none"},
    {"name": "host", "path": "/api", "auth": "none", "hosts": ["a.test"]},
    {"name": "post", "path": "/api", "auth": "none", "methods": ["POST"]},
    {"name": "deep", "path": "/api/notes", "auth": "none", "methods": ["PUT"]},
]
HOSTS = (b"a.test", b"a.test.", b"b.test")
METHODS = (b"GET", b"POST", b"post", b"PUT", b"DELETE")
PATHS = (b"/", b"/x", b"/api", b"/api/", b"/api/notes", b"/api/notes/1/2", b"/apix", b"/api/notesx")


def test_last_look_is_the_match_and_all_others_say_why_not() -> None:
    routes = [{"upstreams": ["http://127.0.0.1:9"], **route} for route in ROUTES]
    table = RouteTable(compile_routes(parse({"server": {"public_url": "http://a.test"}, "routes": routes})))
    for host, method, path in product(HOSTS, METHODS, PATHS):
        found = table.match(host, method, path)
        looks = table.looked_at(host, method, path)
        matches = [look.route for look in looks if not look.why_not]
        assert matches == ([] if isinstance(found, NoRoute) else [found])
        assert all(look.why_not for look in looks[:-1])
