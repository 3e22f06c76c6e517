"""A Django project called `wiki`, whose settings end with the lines of docs/openid-connect.md."""

import os
import sys
from pathlib import Path
from wsgiref.simple_server import make_server

folder = Path(os.environ["SITE"])
sys.path.insert(0, str(folder))
os.environ["DJANGO_SETTINGS_MODULE"] = "wiki.settings"

import django  # noqa: E402  # the settings are named first
from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402

django.setup()
call_command("migrate", verbosity=0)
make_server("127.0.0.1", int(os.environ["PORT"]), get_wsgi_application()).serve_forever()
