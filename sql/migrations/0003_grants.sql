-- What people allowed, and what was issued from it. A grant leads to codes, a redeemed code to a family, a family to
-- tokens. Whether a token lives is decided when it is presented, by joining all that it came from: so one row ends
-- all of it, and no token that was being written meanwhile escapes.

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
    revoked_at timestamptz,
    constraint grants_subject_fkey foreign key (subject) references users on delete cascade,
    constraint grants_client_id_fkey foreign key (client_id) references clients on delete cascade
);
create unique index grants_live_key on grants (subject, client_id, resource) where revoked_at is null;
create index grants_subject on grants (subject);
create index grants_client_id on grants (client_id);
create index grants_revoked_at on grants (revoked_at) where revoked_at is not null;

-- A flow belongs to a person, not to one session: who signs in anew, in another tab say, goes on where they were. What
-- was answered stays with the flow, so that a second click on the same button gets the same answer.
create table flows (
    flow_id text primary key,
    subject text not null,
    client_id text not null,
    -- The authorization request whole, as the program writes and reads it (`gateway/oauth/authorize.py`). Another
    -- parameter of requests is another member, and no change of the schema. So in `codes`.
    request jsonb not null,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    decision text, -- null while the person's answer is awaited
    allowed text[], -- which of the scopes asked for; set with the decision "granted"
    code_digest bytea,
    sealed_code bytea, -- worth something for as long as the code is
    constraint flows_subject_fkey foreign key (subject) references users on delete cascade,
    constraint flows_client_id_fkey foreign key (client_id) references clients on delete cascade,
    constraint flows_decision_check check (decision in ('granted', 'denied')),
    constraint flows_allowed_check check ((decision is not distinct from 'granted') = (allowed is not null))
);
create index flows_subject on flows (subject);
create index flows_client_id on flows (client_id);
create index flows_expires_at on flows (expires_at);

create table families (
    family_id text primary key,
    grant_id text not null,
    scopes text[] not null,
    resource text[] not null,
    client_generation integer not null,
    user_generation integer not null,
    created_at timestamptz not null,
    expires_at timestamptz not null, -- nothing that came from it lives longer
    revoked_at timestamptz,
    constraint families_grant_id_fkey foreign key (grant_id) references grants on delete cascade
);
create index families_grant_id on families (grant_id);
create index families_expires_at on families (expires_at);

create table codes (
    digest bytea primary key,
    grant_id text not null,
    request jsonb not null,
    scopes text[] not null, -- which of the scopes asked for were allowed
    client_generation integer not null,
    user_generation integer not null,
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
create index codes_expires_at on codes (expires_at) where spent_at is null;

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
    issued_at timestamptz not null,
    expires_at timestamptz not null,
    revoked_at timestamptz,
    constraint access_tokens_mac_check check (
        (token_type = 'mac') = (mac_key is not null) and (mac_key is null) = (mac_algorithm is null)
    ),
    constraint access_tokens_subject_check check ((subject is null) = (user_generation is null))
);
create index access_tokens_client_id on access_tokens (client_id);
create index access_tokens_subject on access_tokens (subject) where subject is not null;
create index access_tokens_expires_at on access_tokens (expires_at);

-- The one place that says what a token's life hangs on besides its time. A row names that, so that it can be cached
-- with it. A grant can shrink: somebody un-ticks a scope, or an operator deletes it. What came from the grant and goes
-- beyond it is dead by the join, also what was being written meanwhile, and it stays so: whoever shrinks a grant ends
-- the families beyond it too, or they would come alive when it grows again.
--
-- `left join` and `coalesce`, here and below, keep the server from beginning with the client and walking through all of
-- its tokens, which seems cheap to it where it has no statistics.
create view living_access_tokens as
select t.digest, t.client_id, t.subject, t.scopes, t.resource, t.token_type, t.mac_key, t.mac_algorithm, t.issued_at,
    t.expires_at, c.mac_drafts, u.username, u.email, t.family_id, f.grant_id
from access_tokens t
left join clients c on c.client_id = t.client_id
left join users u on u.subject = t.subject
left join families f on f.family_id = t.family_id
left join grants g on g.grant_id = f.grant_id
where t.revoked_at is null
    and coalesce(c.disabled_at is null and c.generation = t.client_generation, false)
    and (t.subject is null or (u.disabled_at is null and u.generation = t.user_generation))
    and (t.family_id is null
        or (f.revoked_at is null and g.grant_id is not null and g.revoked_at is null and f.scopes <@ g.scopes));

create view living_families as
select f.family_id, f.scopes, f.resource, f.expires_at, g.client_id, g.subject, u.username
from families f
join grants g on g.grant_id = f.grant_id
left join clients c on c.client_id = g.client_id
left join users u on u.subject = g.subject
where f.revoked_at is null and g.revoked_at is null and f.scopes <@ g.scopes
    and coalesce(c.disabled_at is null and c.generation = f.client_generation, false)
    and coalesce(u.disabled_at is null and u.generation = f.user_generation, false);
