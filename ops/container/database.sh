#!/bin/sh
# Run by the image of Postgres when its volume is empty: the gateway's role, which owns its database and nothing else.
psql -q -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -v password="$POSTGRES_PASSWORD" <<'END'
CREATE ROLE gateway LOGIN PASSWORD :'password';
CREATE DATABASE gateway OWNER gateway ENCODING 'UTF8' TEMPLATE template0;
END
