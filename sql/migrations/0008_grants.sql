-- What people allowed, and what began from it. A grant leads to codes, a redeemed code to a family, a family to tokens.
-- Whether a token lives is decided when it is presented, by joining all that it came from: so one row ends all of it,
-- and no token that was being written meanwhile escapes.

create table grants (
    grant_id text primary key,
    subject text not null,
    client_id text not null,
    scopes text[] not null,
    -- Consent covers the resources that were asked for (RFC 8707), sorted; none means every route. Another set of them
    -- is another grant. So one person and one client may have several, which end together when the person withdraws.
    resource text[] not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    last_used_at timestamptz, -- to some minutes (`gateway/store/uses.py`)
    revoked_at timestamptz,
    constraint grants_subject_fkey foreign key (subject) references users on delete cascade,
    constraint grants_client_id_fkey foreign key (client_id) references clients on delete cascade
);
create unique index grants_live_key on grants (subject, client_id, resource) where revoked_at is null;
create index grants_subject on grants (subject);
create index grants_client_id on grants (client_id);
create index grants_revoked_at on grants (revoked_at) where revoked_at is not null;

create table families (
    family_id text primary key,
    grant_id text not null,
    scopes text[] not null,
    resource text[] not null,
    -- Claims that the request named one by one, for the ID tokens and for the UserInfo endpoint (OpenID Connect Core,
    -- section 5.5).
    id_token_claims text[] not null default '{}',
    userinfo_claims text[] not null default '{}',
    client_generation integer not null,
    user_generation integer not null,
    -- The session in whose sign-in it began, when that was and how (`acr`, OpenID Connect Core, section 2): for routes
    -- that ask for it, and for whoever is told of a token (RFC 9470, section 6). The session may be over by then, so
    -- nothing refers to it.
    session_id text,
    auth_time timestamptz,
    acr text not null default 'password',
    -- The thumbprint of the client's key that refresh tokens are bound to (DPoP, RFC 9449), where nothing else proves
    -- who comes with one, as for a public client.
    jkt text,
    created_at timestamptz not null,
    expires_at timestamptz not null, -- nothing that came from it lives longer
    revoked_at timestamptz,
    constraint families_grant_id_fkey foreign key (grant_id) references grants on delete cascade
);
create index families_grant_id on families (grant_id);
create index families_session_id on families (session_id) where session_id is not null;
create index families_expires_at on families (expires_at);

create table codes (
    digest bytea primary key,
    grant_id text not null,
    request jsonb not null, -- whole, as in `flows`
    scopes text[] not null, -- which of the scopes asked for were allowed
    client_generation integer not null,
    user_generation integer not null,
    -- The session in whose sign-in it began, when that was and how, for the family.
    session_id text,
    auth_time timestamptz,
    acr text not null default 'password',
    issued_at timestamptz not null,
    expires_at timestamptz not null,
    spent_at timestamptz,
    -- A spent code stays as long as its family does, so that a replay finds what to revoke.
    family_id text,
    constraint codes_grant_id_fkey foreign key (grant_id) references grants on delete cascade,
    constraint codes_family_id_fkey foreign key (family_id) references families on delete cascade,
    constraint codes_spent_check check ((spent_at is null) = (family_id is null))
);
create index codes_grant_id on codes (grant_id);
create index codes_family_id on codes (family_id) where family_id is not null;
create index codes_session_id on codes (session_id) where session_id is not null and spent_at is null;
create index codes_expires_at on codes (expires_at) where spent_at is null;
