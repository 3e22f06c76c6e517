-- Tokens, and what ends them.

-- No foreign keys on the two tables below: a row whose origin is gone is dead by the join, and expires by itself.
create table refresh_tokens (
    digest bytea primary key,
    family_id text not null,
    salt bytea not null,
    issued_at timestamptz not null,
    expires_at timestamptz not null,
    spent_at timestamptz,
    successor bytea,
    constraint refresh_tokens_spent_check check ((spent_at is null) = (successor is null))
);
create index refresh_tokens_expires_at on refresh_tokens (expires_at);

create table access_tokens (
    digest bytea primary key,
    client_id text not null,
    subject text,
    family_id text,
    client_generation integer not null,
    user_generation integer,
    scopes text[] not null,
    resource text[] not null,
    token_type text not null,
    mac_key bytea, -- sealed
    mac_algorithm text,
    jkt text, -- the thumbprint of the client's key that it is bound to (DPoP, RFC 9449)
    issued_at timestamptz not null,
    expires_at timestamptz not null,
    last_used_at timestamptz, -- to some minutes (`gateway/store/uses.py`)
    revoked_at timestamptz,
    constraint access_tokens_mac_check check (
        (token_type = 'mac') = (mac_key is not null) and (mac_key is null) = (mac_algorithm is null)
    ),
    constraint access_tokens_subject_check check ((subject is null) = (user_generation is null))
);
create index access_tokens_client_id on access_tokens (client_id);
create index access_tokens_subject on access_tokens (subject) where subject is not null;
create index access_tokens_expires_at on access_tokens (expires_at);

-- The views of ends are the one place that says what the life of an access token or a family hangs on besides its
-- time; those of what lives rest on them. `ended` is null while it lives, and else reads "revoked", "of a disabled
-- client" and the like, which follows the noun in a sentence of the operator's log.
--
-- A row names what its life hangs on, so that it can be cached with it. A grant can shrink: somebody un-ticks a scope,
-- or an operator deletes it. What came from the grant and goes beyond it is dead by the join, also what was being
-- written meanwhile, and it stays so: whoever shrinks a grant ends the families beyond it too, or they would come alive
-- when it grows again. What somebody has by a client that is for some groups ends when they leave the last of these, or
-- the client is closed to them.
--
-- `left join` keeps the server from beginning with the client and walking through all of its tokens, which seems cheap
-- to it where it has no statistics.
create view access_token_ends as
select t.digest, t.client_id, t.subject, u.username, u.email, u.groups, t.family_id, f.grant_id, t.scopes, t.resource,
    t.token_type, t.mac_key, t.mac_algorithm, t.jkt, t.issued_at, t.expires_at, c.mac_drafts, f.auth_time,
    case when f.auth_time is not null then f.acr end as acr,
    case
        when t.revoked_at is not null then 'revoked'
        when c.client_id is null then 'of a deleted client'
        when c.disabled_at is not null then 'of a disabled client'
        when t.subject is not null and u.subject is null then 'of a deleted user'
        when t.subject is not null and u.disabled_at is not null then 'of a disabled user'
        when c.generation <> t.client_generation or (t.subject is not null and u.generation <> t.user_generation)
            or (t.family_id is not null
                and coalesce(f.revoked_at is not null or g.revoked_at is not null or not f.scopes <@ g.scopes, true))
            then 'revoked'
        when t.subject is not null and c.allow_groups <> '{}' and not c.allow_groups && u.groups
            then 'of a user who may not use the client'
    end as ended
from access_tokens t
left join clients c on c.client_id = t.client_id
left join users u on u.subject = t.subject
left join families f on f.family_id = t.family_id
left join grants g on g.grant_id = f.grant_id;

create view living_access_tokens as
select digest, client_id, subject, username, email, groups, family_id, grant_id, scopes, resource, token_type, mac_key,
    mac_algorithm, jkt, issued_at, expires_at, mac_drafts, auth_time, acr
from access_token_ends
where ended is null;

create view family_ends as
select f.family_id, f.scopes, f.resource, f.expires_at, g.client_id, g.subject, u.username,
    case
        when c.client_id is null then 'of a deleted client'
        when c.disabled_at is not null then 'of a disabled client'
        when u.subject is null then 'of a deleted user'
        when u.disabled_at is not null then 'of a disabled user'
        when f.revoked_at is not null or g.revoked_at is not null or not f.scopes <@ g.scopes
            or c.generation <> f.client_generation or u.generation <> f.user_generation then 'revoked'
        when c.allow_groups <> '{}' and not c.allow_groups && u.groups then 'of a user who may not use the client'
    end as ended
from families f
join grants g on g.grant_id = f.grant_id
left join clients c on c.client_id = g.client_id
left join users u on u.subject = g.subject;

create view living_families as
select family_id, scopes, resource, expires_at, client_id, subject, username
from family_ends
where ended is null;
