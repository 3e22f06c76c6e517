-- Clients whose access tokens are JWTs (RFC 9068), and when people signed in, which those tell (`auth_time`).
alter table clients add column token_format text not null default 'opaque',
    add constraint clients_token_format_check check (token_format in ('opaque', 'jwt'));
alter table codes add column auth_time timestamptz;
alter table families add column auth_time timestamptz;
