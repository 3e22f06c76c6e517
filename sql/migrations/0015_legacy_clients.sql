-- The few clients that may use what OAuth 2.1 has given up, found without looking through all of them: the metadata tell
-- of it only where there are any.
create index clients_legacy on clients (client_id) where grant_types && '{implicit,password}'::text[];
