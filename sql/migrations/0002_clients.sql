-- Who may ask, and what may be asked for.

create table clients (
    client_id text primary key,
    name text not null,
    -- What people are shown of it besides its name, and who answers for it (RFC 7591, section 2).
    description text,
    owner text,
    homepage text,
    privacy text,
    terms text,
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
    constraint clients_description_check check (description <> ''),
    constraint clients_token_type_check check (token_type in ('bearer', 'mac')),
    constraint clients_first_party_check check (confidential or not first_party),
    constraint clients_pkce_check check (confidential or pkce_required),
    -- A client outlives its owner: the operator gives it another one.
    constraint clients_owner_fkey foreign key (owner) references users on delete set null
);
create index clients_owner on clients (owner) where owner is not null;

create table client_secrets (
    digest bytea primary key,
    client_id text not null,
    created_at timestamptz not null,
    expires_at timestamptz, -- set when a newer secret takes over
    constraint client_secrets_client_id_fkey foreign key (client_id) references clients on delete cascade
);
create index client_secrets_client_id on client_secrets (client_id);

-- Apart from the clients, which are read with every token: a logo is read only when a browser asks for it.
create table client_logos (
    client_id text primary key,
    name text not null, -- holds the content's digest, so that a browser may keep it for good
    content bytea not null,
    constraint client_logos_client_id_fkey foreign key (client_id) references clients on delete cascade
);
create index client_logos_name on client_logos (name);

create table scopes (
    name text not null,
    description text not null,
    created_at timestamptz not null,
    constraint scopes_pkey primary key (name),
    constraint scopes_name_check check (name ~ '^[\x21\x23-\x5b\x5d-\x7e]+$'), -- RFC 6749, section 3.3
    constraint scopes_description_check check (description <> '')
);
