-- Names of what an operator has decided of a client that describes itself: it stays so whatever the client says later.
alter table clients add column decided text[] not null default '{}';

update clients c set decided = '{jwks}' from registrations r
where r.client_id = c.client_id and c.jwks is not null
    and r.metadata::jsonb ->> 'token_endpoint_auth_method' is distinct from 'private_key_jwt' and r.token_digest is not null;
