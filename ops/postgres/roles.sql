-- The database and its two roles, for a superuser: one owns and migrates, the other serves with no more than it needs.
-- What the second one needs on the tables, `gateway migrate --status` prints as GRANTs (docs/database.md).
CREATE ROLE gateway_owner LOGIN PASSWORD 'CHANGE-ME-OWNER';
CREATE ROLE gateway LOGIN PASSWORD 'CHANGE-ME';
CREATE DATABASE gateway OWNER gateway_owner ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE gateway FROM PUBLIC;
GRANT CONNECT ON DATABASE gateway TO gateway;
