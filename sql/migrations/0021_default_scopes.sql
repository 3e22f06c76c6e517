-- What a client asks for where its request names no scopes (RFC 6749, section 3.3); null for all that it may ask for. One
-- that registers itself names these, and may later ask for others: people decide each time.
alter table clients add column default_scopes text[];
