-- Who may ask.

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
    jwks jsonb, -- a JWK Set of public keys, for one that authenticates by what it signs (RFC 7523) instead of a secret
    redirect_uris text[] not null,
    grant_types text[] not null,
    scopes text[] not null,
    -- What it asks for where its request names no scopes (RFC 6749, section 3.3); null for all that it may ask for. One
    -- that registers itself names these, and may later ask for others: people decide each time.
    default_scopes text[],
    allow_groups text[] not null default '{}', -- where it names some, only people in one of them may use it
    token_type text not null,
    token_format text not null default 'opaque', -- of access tokens; JWTs by RFC 9068
    mac_drafts text[] not null,
    mac_algorithm text not null,
    pkce_required boolean not null,
    par_required boolean not null default false, -- it asks by pushed requests (RFC 9126) and in no other way
    dpop_required boolean not null default false,
    -- How it learns of people, as the program writes and reads it (`gateway/model.py`, OpenID). Another setting is
    -- another member, and no change of the schema.
    openid jsonb not null default '{}',
    first_party boolean not null,
    verified boolean not null,
    -- Names of what an operator has decided of one that describes itself: it stays so whatever the client says later.
    decided text[] not null default '{}',
    -- Raised to end everything that was issued to this client.
    generation integer not null default 0,
    created_at timestamptz not null,
    disabled_at timestamptz,
    constraint clients_name_check check (name <> ''),
    constraint clients_description_check check (description <> ''),
    constraint clients_token_type_check check (token_type in ('bearer', 'mac')),
    constraint clients_token_format_check check (token_format in ('opaque', 'jwt')),
    constraint clients_first_party_check check (confidential or not first_party),
    constraint clients_pkce_check check (confidential or pkce_required),
    constraint clients_jwks_check check (jwks is null or confidential),
    -- A client outlives its owner: the operator gives it another one.
    constraint clients_owner_fkey foreign key (owner) references users on delete set null
);
create index clients_owner on clients (owner) where owner is not null;
-- The few that may use what OAuth 2.1 has given up, found without looking through all of them: the metadata tell of it
-- only where there are any.
create index clients_legacy on clients (client_id) where grant_types && '{implicit,password}'::text[];

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
