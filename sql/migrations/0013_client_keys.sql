-- Keys of clients that authenticate by what they sign (RFC 7523) instead of a secret: a JWK Set of public keys.
alter table clients add column jwks jsonb,
    add constraint clients_jwks_check check (jwks is null or confidential);
