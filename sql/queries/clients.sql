-- name: client_create
-- A new client; $secret_digest is the digest of its secret, null for one that has none: it is public, or signs by keys.
with created as (
    insert into clients (
        client_id, name, confidential, redirect_uris, grant_types, scopes, token_type, mac_drafts, mac_algorithm,
        pkce_required, first_party, verified, description, owner, homepage, privacy, terms, created_at, par_required, jwks,
        token_format, openid, default_scopes, dpop_required, allow_groups, decided
    )
    values (
        $client_id, $name, $confidential, $redirect_uris, $grant_types, $scopes, $token_type, $mac_drafts,
        $mac_algorithm, $pkce_required, $first_party, $verified, $description, $owner, $homepage, $privacy, $terms, $now,
        $par_required, $jwks, $token_format, $openid, $default_scopes, $dpop_required, $allow_groups, $decided
    )
    returning *
), secret as (
    insert into client_secrets (digest, client_id, created_at)
    select $secret_digest, client_id, $now from created where $secret_digest::bytea is not null
), recorded as (
    insert into events (at, kind, client_id, detail, request_id, address, actor, proof)
    select $now, 'client.created', client_id, jsonb_build_object('name', name),
        $request_id, $address, $actor, $proof::bytea from created
)
select client_id from created;

-- name: clients_list
-- Every client, the oldest first.
select c.*, l.name as logo, o.username as owner_username, o.name as owner_name
from clients c
left join client_logos l on l.client_id = c.client_id
left join lateral (select username, name from users where subject = c.owner offset 0) as o on true
order by c.created_at, c.client_id;

-- name: client_find
-- One client, also a disabled one.
select c.*, l.name as logo, o.username as owner_username, o.name as owner_name
from clients c
left join client_logos l on l.client_id = c.client_id
left join users o on o.subject = c.owner
where c.client_id = $client_id;

-- name: clients_owned
-- The clients that a person answers for.
select client_id from clients where owner = $owner order by created_at, client_id;

-- name: client_hold
-- A client that is about to change, so that what it says of itself and what an operator says come one after the other.
select client_id from clients where client_id = $client_id for update;

-- name: client_update
-- What a client is, anew; one that became public or has keys loses its secrets, and $logo is the name of the only logo that stays.
with changed as (
    update clients set
        name = $name, confidential = $confidential, redirect_uris = $redirect_uris, grant_types = $grant_types,
        scopes = $scopes, token_type = $token_type, mac_drafts = $mac_drafts, mac_algorithm = $mac_algorithm,
        pkce_required = $pkce_required, par_required = $par_required, jwks = $jwks, token_format = $token_format,
        openid = $openid, allow_groups = $allow_groups, default_scopes = $default_scopes, dpop_required = $dpop_required,
        decided = $decided, first_party = $first_party, verified = $verified,
        description = $description, owner = $owner, homepage = $homepage, privacy = $privacy, terms = $terms
    where client_id = $client_id
    returning client_id, confidential and jwks is null as has_secrets
), dropped as (
    delete from client_secrets using changed
    where client_secrets.client_id = changed.client_id and not changed.has_secrets
), bare as (
    delete from client_logos using changed
    where client_logos.client_id = changed.client_id and client_logos.name is distinct from $logo
), recorded as (
    insert into events (at, kind, client_id, request_id, address, actor, proof)
    select $now, 'client.updated', client_id, $request_id, $address, $actor, $proof::bytea from changed
)
select client_id from changed;

-- name: client_logo_set
-- A client's logo, in place of the one that it had.
insert into client_logos (client_id, name, content) values ($client_id, $name, $content)
on conflict (client_id) do update set name = $name, content = $content;

-- name: client_logo_find
-- The picture of that name; clients with the same picture have the same name for it.
select content from client_logos where name = $name limit 1;

-- name: client_lock
-- A client whose secrets are about to change, one at a time.
select client_id from clients where client_id = $client_id and confidential and jwks is null for update;

-- name: secrets_retire
-- The secrets that a newer one replaces end $overlap after $now, which is no later than now, unless they end before.
update client_secrets set expires_at = least(expires_at, least($now, now()) + $overlap::interval)
where client_id = $client_id;

-- name: secrets_list
-- The secrets of a client that count, the newest first: since when, and until when where a newer one takes over.
select created_at, expires_at from client_secrets
where client_id = $client_id and (expires_at is null or expires_at > $now)
order by expires_at desc nulls first;

-- name: secret_add
-- The secret that replaces them.
with added as (
    insert into client_secrets (digest, client_id, created_at) values ($secret_digest, $client_id, $now)
    returning client_id
)
insert into events (at, kind, client_id, request_id, address, actor, proof)
select $now, 'client.secret_rotated', client_id, $request_id, $address, $actor, $proof::bytea from added;

-- name: client_disable
-- Refused from now on; what was issued to it is dead for good.
with changed as (
    update clients set disabled_at = coalesce(disabled_at, $now), generation = generation + 1
    where client_id = $client_id
    returning client_id
), recorded as (
    insert into events (at, kind, client_id, request_id, address, actor, proof)
    select $now, 'client.disabled', client_id, $request_id, $address, $actor, $proof::bytea from changed
)
select client_id from changed;

-- name: client_enable
-- May ask again; what was ended stays ended.
with changed as (
    update clients set disabled_at = null where client_id = $client_id returning client_id
), recorded as (
    insert into events (at, kind, client_id, request_id, address, actor, proof)
    select $now, 'client.enabled', client_id, $request_id, $address, $actor, $proof::bytea from changed
)
select client_id from changed;

-- name: client_delete
-- Gone for good, with its secrets, grants and all that hangs on them.
with gone as (
    delete from clients where client_id = $client_id returning client_id, name
), recorded as (
    insert into events (at, kind, client_id, detail, request_id, address, actor, proof)
    select $now, 'client.deleted', client_id, jsonb_build_object('name', name),
        $request_id, $address, $actor, $proof::bytea from gone
)
select client_id from gone;

-- name: client_authenticate
-- A client, also a disabled one, and whether $secret_digest is the digest of a secret of its own.
select c.*, l.name as logo, o.username as owner_username, o.name as owner_name, s.digest is not null as proven
from clients c
left join client_secrets s
    on s.client_id = c.client_id and s.digest = $secret_digest and (s.expires_at is null or s.expires_at > $now)
left join client_logos l on l.client_id = c.client_id
left join users o on o.subject = c.owner
where c.client_id = $client_id;

-- name: client_revoke
-- Ends every token and code of a client; counts the access tokens and families that lived.
with ended as (
    update clients set generation = generation + 1 where client_id = $client_id returning client_id
), counted as (
    select
        (
            select count(*) from access_tokens t
            where t.client_id = e.client_id and t.expires_at > $now
                and exists (select from living_access_tokens l where l.digest = t.digest offset 0)
        ) + (
            select count(*) from grants g
            cross join lateral (
                select family_id from families where grant_id = g.grant_id and expires_at > $now offset 0
            ) as f
            where g.client_id = e.client_id
                and exists (select from living_families l where l.family_id = f.family_id offset 0)
        ) as n
    from ended e
), recorded as (
    insert into events (at, kind, client_id, detail, request_id, address, actor, proof)
    select $now, 'token.revoked', client_id, '{"all": true}',
        $request_id, $address, $actor, $proof::bytea from ended
)
select n from counted;

-- name: clients_legacy
-- The grant types that OAuth 2.1 has given up and some client that is not disabled may still use.
select distinct grant_type
from clients, unnest(grant_types) as grant_type
where grant_types && '{implicit,password}'::text[] and disabled_at is null and grant_type in ('implicit', 'password');
