-- Who may ask, and what may be asked for.

create table clients (
    client_id text primary key,
    name text not null,
    confidential boolean not null,
    redirect_uris text[] not null,
    grant_types text[] not null,
    scopes text[] not null,
    token_type text not null,
    mac_drafts text[] not null,
    mac_algorithm text not null,
    pkce_required boolean not null,
    first_party boolean not null,
    verified boolean not null,
    -- Raised to end everything that was issued to this client.
    generation integer not null default 0,
    created_at timestamptz not null,
    disabled_at timestamptz,
    constraint clients_name_check check (name <> ''),
    constraint clients_token_type_check check (token_type in ('bearer', 'mac')),
    constraint clients_first_party_check check (confidential or not first_party),
    constraint clients_pkce_check check (confidential or pkce_required)
);

create table client_secrets (
    digest bytea primary key,
    client_id text not null,
    created_at timestamptz not null,
    expires_at timestamptz, -- set when a newer secret takes over
    constraint client_secrets_client_id_fkey foreign key (client_id) references clients on delete cascade
);
create index client_secrets_client_id on client_secrets (client_id);

create table scopes (
    name text not null,
    description text not null,
    created_at timestamptz not null,
    constraint scopes_pkey primary key (name),
    constraint scopes_name_check check (name ~ '^[\x21\x23-\x5b\x5d-\x7e]+$'), -- RFC 6749, section 3.3
    constraint scopes_description_check check (description <> '')
);
